// The normal law in four shapes of covariance: log-densities and weighted sums of chunks of rows.

#pragma once

#include "door.hpp"
#include "triangle.hpp"

namespace emkit {
namespace {

constexpr double LOG_2PI = 1.8378770664093454836;

template <class T> void convert(const double* from, Size size, T* to) {
    for (Size i = 0; i < size; ++i) to[i] = T(from[i]);
}

template <class T> inline Vec<T> guarded(Vec<T> log_prob) {
    return larger<T>(log_prob, fill<T>(Format<T>::least_log_prob));
}

// The log-probabilities of a component that is switched off; false for any other.
template <class T> bool switched_off(double constant, T* joint, int count) {
    if (constant != -std::numeric_limits<double>::infinity()) return false;
    std::fill(joint, joint + count, -std::numeric_limits<T>::infinity());
    return true;
}

// Full covariances ----------------------------------------------------------------------------------------------------

template <class T> class Full {
  public:
    static constexpr const char* COVARIANCE = "cholesky";
    static constexpr int DIMENSIONS = 3;
    static Lengths covariance_shape(size_t K, size_t d) { return {K, d, d}; }
    static Lengths seconds_shape(size_t K, size_t d) { return {K, d, d}; }
    static constexpr double WORTH_MOVING = 0.75;

    Full(const Arguments& a, Size stride)
        : K(a.K), d(a.d), panel(panels_size(d)), totals(a), constants(K), means(K * d), whiten(K * panel),
          strip(d * STRIP * N), weighted(d * stride), root(stride) {
        convert(a.means, K * d, means + 0);
        if (a.covariance == nullptr) return;
        for (Size k = 0; k < K; ++k) {
            Buffer<double> inverse(d * d);
            constants[k] = a.log_weights[k] + invert<T>(a.covariance + k * d * d, d, inverse) - 0.5 * d * LOG_2PI;
            to_panels<T>(inverse, d, whiten + k * panel);
        }
    }

    void log_joint(const Rows<T>& rows, T* joint, Range components) {
        T* const x = strip;
        for (Size k = components.first; k < components.last; ++k, joint += rows.stride) {
            if (switched_off(constants[k], joint, rows.count)) continue;
            const T* mean = means + k * d;
            for (int i = 0; i < rows.count; i += STRIP * N) {
                for (Size j = 0; j < d; ++j)
                    EMKIT_UNROLL for (int v = 0; v < STRIP; ++v)
                        store<T>(x + (j * STRIP + v) * N, load(rows.z + j * rows.stride + i + v * N) - mean[j]);
                Vec<T> square[STRIP];
                clear<T>(square);
                multiply<T>(whiten + k * panel, x, d, [&](Size, int v, Vec<T> y) EMKIT_INLINE { square[v] += y * y; });
                EMKIT_UNROLL for (int v = 0; v < STRIP; ++v)
                    store<T>(joint + i + v * N, guarded<T>(T(constants[k]) - T(0.5) * square[v]));
            }
        }
    }

    // The scatter is Y Y' with Y the deviations times the roots of the responsibilities.
    void accumulate(Size k, const Rows<T>& rows, double unit) {
        double* first = totals.firsts + k * d;
        double* second = totals.seconds + k * d * d;
        T *const s = root, *const y = weighted;
        for (int i = 0; i < rows.count; ++i) s[i] = std::sqrt(rows.weight[i]);
        for_each_panel(d, [&](Size j, int height) EMKIT_INLINE {
            with_size(height, [&](auto height_) EMKIT_INLINE {
                constexpr int P = decltype(height_)::value;
                weigh<P>(rows, means + k * d + j, s, rows.z + j * rows.stride, y + j * rows.stride, unit, first + j);
            });
        });
        for_each_panel(d, [&](Size i, int height) EMKIT_INLINE {
            const Size columns = i + height, tiles = (columns + 2) / 3, wide = 3 * (columns - 2 * tiles);
            for (Size j = 0, width; j < columns; j += width) {
                width = std::min<Size>(j < wide ? 3 : 2, columns - j);
                with_size(height, [&](auto height_) EMKIT_INLINE {
                    with_size(int(width), [&](auto width_) EMKIT_INLINE {
                        constexpr int P = decltype(height_)::value, Q = std::min(3, decltype(width_)::value);
                        rank_update<P, Q>(y + i * rows.stride, y + j * rows.stride, rows, unit, second + i * d + j);
                    });
                });
            }
        });
    }

    void accumulate_all(const Rows<T>&, double, Size) {}

    double constant(Size k) const { return constants[k]; }

    void finish() {
        for (Size k = 0; k < K; ++k)
            for (Size i = 0; i < d; ++i)
                for (Size j = 0; j < i; ++j) totals.seconds[(k * d + j) * d + i] = totals.seconds[(k * d + i) * d + j];
    }

  private:
    static constexpr int N = LANES<T>;

    template <int P>
    static void weigh(const Rows<T>& rows, const T* mean, const T* s, const T* z, T* y, double unit, double* total) {
        const Size stride = rows.stride, count = rows.count;
        Vec<T> first[P], center[P];
        clear<T>(first);
        EMKIT_UNROLL for (int p = 0; p < P; ++p) center[p] = fill<T>(mean[p]);
        for (Size i = 0; i < count; i += N) {
            const Vec<T> root = load(s + i);
            EMKIT_UNROLL for (int p = 0; p < P; ++p) {
                const Vec<T> deviation = root * (load(z + p * stride + i) - center[p]);
                store<T>(y + p * stride + i, deviation);
                first[p] += root * deviation;
            }
        }
        EMKIT_UNROLL for (int p = 0; p < P; ++p) total[p] += unit * sum<T>(first[p]);
    }

    template <int P, int Q>
    EMKIT_KEEP void rank_update(const T* a, const T* b, const Rows<T>& rows, double unit, double* total) const {
        const Size stride = rows.stride, count = rows.count;
        Vec<T> tile[P][Q];
        clear<T>(tile);
        for (Size i = 0; i < count; i += N) {
            Vec<T> column[Q];
            EMKIT_UNROLL for (int q = 0; q < Q; ++q) column[q] = load(b + q * stride + i);
            EMKIT_UNROLL for (int p = 0; p < P; ++p) {
                const Vec<T> row = load(a + p * stride + i);
                EMKIT_UNROLL for (int q = 0; q < Q; ++q) tile[p][q] += row * column[q];
            }
        }
        EMKIT_UNROLL for (int p = 0; p < P; ++p)
            EMKIT_UNROLL for (int q = 0; q < Q; ++q) total[p * d + q] += unit * sum<T>(tile[p][q]);
    }

    const Size K, d, panel;
    const Arguments totals;
    Buffer<double> constants;
    Buffer<T> means, whiten, strip, weighted, root;
};

// Shapes that treat the columns one by one ----------------------------------------------------------------------------

// joint = constant - factor * sum_j precision_j (x_j - mean_j)^2, with precision 1 if not SCALED
template <bool SCALED, class T>
void distances(const Rows<T>& rows, Size d, const T* mean, const T* precision, T factor, double constant, T* joint) {
    constexpr int N = LANES<T>;
    const Size stride = rows.stride;
    if (switched_off(constant, joint, rows.count)) return;
    for (int i = 0; i < rows.count; i += STRIP * N) {
        Vec<T> distance[STRIP];
        clear<T>(distance);
        const T* z = rows.z + i;
        for (Size j = 0; j < d; ++j, z += stride)
            EMKIT_UNROLL for (int v = 0; v < STRIP; ++v) {
                const Vec<T> deviation = load(z + v * N) - mean[j];
                distance[v] += SCALED ? deviation * precision[j] * deviation : deviation * deviation;
            }
        EMKIT_UNROLL for (int v = 0; v < STRIP; ++v)
            store<T>(joint + i + v * N, guarded<T>(T(constant) - factor * distance[v]));
    }
}

// Adds sums of r (z - mean) and, if SECONDS, r (z - mean)^2 for P columns; the latter in one place if second_step is 0.
template <bool SECONDS, int P, class T>
void moments_of(const Rows<T>& rows, const T* z, const T* mean, double unit, double* first, double* second, int second_step) {
    constexpr int N = LANES<T>, WAYS = P == 1 ? STRIP : 1;  // sums of one column do not wait for each other
    const Size stride = rows.stride, count = rows.count;
    const T* weight = rows.weight;
    Vec<T> f[WAYS][P], s[WAYS][P], center[P];
    clear<T>(f);
    clear<T>(s);
    EMKIT_UNROLL for (int p = 0; p < P; ++p) center[p] = fill<T>(mean[p]);
    for (Size i = 0; i < count; i += WAYS * N)
        EMKIT_UNROLL for (int v = 0; v < WAYS; ++v) {
            const Vec<T> r = load(weight + i + v * N);
            EMKIT_UNROLL for (int p = 0; p < P; ++p) {
                const Vec<T> deviation = load(z + p * stride + i + v * N) - center[p], weighted = r * deviation;
                f[v][p] += weighted;
                if constexpr (SECONDS) s[v][p] += weighted * deviation;
            }
        }
    EMKIT_UNROLL for (int p = 0; p < P; ++p) {
        EMKIT_UNROLL for (int v = 1; v < WAYS; ++v) f[0][p] += f[v][p], s[0][p] += s[v][p];
        first[p] += unit * sum<T>(f[0][p]);
        if constexpr (SECONDS) second[p * second_step] += unit * sum<T>(s[0][p]);
    }
}

template <bool SECONDS, class T>
void moments(const Rows<T>& rows, Size d, const T* mean, double unit, double* first, double* second, int second_step) {
    for_each_panel(d, [&](Size j, int height) EMKIT_INLINE {
        with_size(height, [&](auto height_) EMKIT_INLINE {
            moments_of<SECONDS, decltype(height_)::value, T>(rows, rows.z + j * rows.stride, mean + j, unit, first + j,
                                                             second + j * second_step, second_step);
        });
    });
}

// The scatter of all rows about 0, each weighted by the sum of its responsibilities.
template <class T> class Scatter {
  public:
    Scatter(Size d, Size stride, double* seconds)
        : origin(d), firsts(d), weight(stride), full({1, d, nullptr, origin, nullptr, firsts, seconds}, stride) {}

    void add(const Rows<T>& rows, double unit, Size components) {
        for (int i = 0; i < rows.count; i += LANES<T>) {
            Vec<T> total{};
            for (Size k = 0; k < components; ++k) total += load(rows.weight + k * rows.stride + i);
            store<T>(weight + i, total);
        }
        full.accumulate(0, Rows<T>{rows.z, weight, rows.stride, rows.count}, unit);
    }

    void finish() { full.finish(); }

  private:
    Buffer<double> origin, firsts;
    Buffer<T> weight;
    Full<T> full;
};

// One covariance for all components: whitened once, the components differ by their distance alone.
template <class T> class Tied {
  public:
    static constexpr const char* COVARIANCE = "cholesky";
    static constexpr int DIMENSIONS = 2;
    static Lengths covariance_shape(size_t, size_t d) { return {d, d}; }
    static Lengths seconds_shape(size_t, size_t) { return {}; }
    static constexpr double WORTH_MOVING = 0.25;

    Tied(const Arguments& a, Size stride)
        : K(a.K), d(a.d), totals(a), constants(K), means(K * d), white_means(K * d), whiten(panels_size(d)),
          strip(d * STRIP * N), white(d * stride) {
        convert(a.means, K * d, means + 0);
        if (a.seconds != nullptr) scatter.emplace(d, stride, a.seconds);
        if (a.covariance == nullptr) return;
        Buffer<double> inverse(d * d);
        const double log_determinant = invert<T>(a.covariance, d, inverse);
        to_panels<T>(inverse, d, whiten + 0);
        for (Size k = 0; k < K; ++k) {
            constants[k] = a.log_weights[k] + log_determinant - 0.5 * d * LOG_2PI;
            for (Size i = 0; i < d; ++i) {
                double y = 0.0;
                for (Size j = 0; j <= i; ++j) y += inverse[i * d + j] * a.means[k * d + j];
                white_means[k * d + i] = T(y);
            }
        }
    }

    void log_joint(const Rows<T>& rows, T* joint, Range components) {
        T* const x = strip;
        for (int i = 0; i < rows.count; i += STRIP * N) {
            for (Size j = 0; j < d; ++j)
                EMKIT_UNROLL for (int v = 0; v < STRIP; ++v)
                    store<T>(x + (j * STRIP + v) * N, load(rows.z + j * rows.stride + i + v * N));
            T* const to = white + i;
            multiply<T>(whiten, x, d, [&](Size j, int v, Vec<T> y) EMKIT_INLINE { store<T>(to + j * rows.stride + v * N, y); });
        }
        const Rows<T> whitened{white, rows.weight, rows.stride, rows.count};
        for (Size k = components.first; k < components.last; ++k, joint += rows.stride)
            distances<false, T>(whitened, d, white_means + k * d, nullptr, T(0.5), constants[k], joint);
    }

    void accumulate(Size k, const Rows<T>& rows, double unit) {
        moments<false, T>(rows, d, means + k * d, unit, totals.firsts + k * d, nullptr, 0);
    }

    void accumulate_all(const Rows<T>& rows, double unit, Size components) { scatter->add(rows, unit, components); }

    double constant(Size k) const { return constants[k]; }

    void finish() {
        if (scatter) scatter->finish();
    }

  private:
    static constexpr int N = LANES<T>;
    const Size K, d;
    const Arguments totals;
    Buffer<double> constants;
    Buffer<T> means, white_means, whiten, strip, white;
    std::optional<Scatter<T>> scatter;  // only if sums over all components are wanted
};

template <class T> class Diag {
  public:
    static constexpr const char* COVARIANCE = "variances";
    static constexpr int DIMENSIONS = 2;
    static Lengths covariance_shape(size_t K, size_t d) { return {K, d}; }
    static Lengths seconds_shape(size_t K, size_t d) { return {K, d}; }
    static constexpr double WORTH_MOVING = 0.25;

    Diag(const Arguments& a, Size) : K(a.K), d(a.d), totals(a), constants(K), means(K * d), precisions(K * d) {
        convert(a.means, K * d, means + 0);
        if (a.covariance == nullptr) return;
        for (Size k = 0; k < K; ++k) {
            constants[k] = a.log_weights[k] - 0.5 * d * LOG_2PI;
            for (Size j = k * d; j < (k + 1) * d; ++j) {
                precisions[j] = rounded<T>(1.0 / a.covariance[j]);
                constants[k] += 0.5 * std::log(double(precisions[j]));
            }
        }
    }

    void log_joint(const Rows<T>& rows, T* joint, Range components) {
        for (Size k = components.first; k < components.last; ++k, joint += rows.stride)
            distances<true, T>(rows, d, means + k * d, precisions + k * d, T(0.5), constants[k], joint);
    }

    void accumulate(Size k, const Rows<T>& rows, double unit) {
        moments<true, T>(rows, d, means + k * d, unit, totals.firsts + k * d, totals.seconds + k * d, 1);
    }

    void accumulate_all(const Rows<T>&, double, Size) {}

    double constant(Size k) const { return constants[k]; }

    void finish() {}

  private:
    const Size K, d;
    const Arguments totals;
    Buffer<double> constants;
    Buffer<T> means, precisions;
};

template <class T> class Spherical {
  public:
    static constexpr const char* COVARIANCE = "variances";
    static constexpr int DIMENSIONS = 1;
    static Lengths covariance_shape(size_t K, size_t) { return {K}; }
    static Lengths seconds_shape(size_t K, size_t) { return {K}; }
    static constexpr double WORTH_MOVING = 0.25;

    Spherical(const Arguments& a, Size) : K(a.K), d(a.d), totals(a), constants(K), means(K * d), halves(K) {
        convert(a.means, K * d, means + 0);
        if (a.covariance == nullptr) return;
        for (Size k = 0; k < K; ++k) {
            halves[k] = rounded<T>(0.5 / a.covariance[k]);
            constants[k] = a.log_weights[k] - 0.5 * d * (LOG_2PI - std::log(2.0 * halves[k]));
        }
    }

    void log_joint(const Rows<T>& rows, T* joint, Range components) {
        for (Size k = components.first; k < components.last; ++k, joint += rows.stride)
            distances<false, T>(rows, d, means + k * d, nullptr, halves[k], constants[k], joint);
    }

    void accumulate(Size k, const Rows<T>& rows, double unit) {
        moments<true, T>(rows, d, means + k * d, unit, totals.firsts + k * d, totals.seconds + k, 0);
    }

    void accumulate_all(const Rows<T>&, double, Size) {}

    double constant(Size k) const { return constants[k]; }

    void finish() {}

  private:
    const Size K, d;
    const Arguments totals;
    Buffer<double> constants;
    Buffer<T> means, halves;
};

}  // namespace
}  // namespace emkit
