// The one loop over rows: pack a chunk, ask the shape for log-probabilities, turn them into responsibilities, hand them on.
//
// A chunk lies feature-major in cache, column j at z + j * stride, so that vector lanes run over rows. Rows beyond the last
// are zeros of weight zero, which lets every loop run over whole vectors.

#pragma once

#include "simd.hpp"

#include <algorithm>
#include <limits>
#include <new>
#include <type_traits>

namespace emkit {

using Size = std::int64_t;

inline Size round_up(Size size, Size multiple) { return (size + multiple - 1) / multiple * multiple; }

// Below this a responsibility changes no sum but that of the responsibilities.
constexpr double NEGLIGIBLE = 1e-20;
// Micro-kernels work on strips of this many vectors: with 4 outputs, 12 accumulators of the 16 registers.
constexpr int STRIP = 3;

// Zeroed working memory, aligned to cache lines; all of it is taken before the first row.
template <class T> class Buffer {
  public:
    explicit Buffer(Size size) : data_(static_cast<T*>(::operator new(sizeof(T) * size + 64, ALIGNMENT))) {
        std::fill(data_, data_ + size, T(0));
    }
    ~Buffer() { ::operator delete(data_, ALIGNMENT); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    operator T*() { return data_; }
    operator const T*() const { return data_; }

  private:
    static constexpr std::align_val_t ALIGNMENT{64};
    T* data_;
};

// Calls f with n, one of 1 .. 4, as a compile-time constant.
template <class F> EMKIT_INLINE inline void with_size(int n, F f) {
    switch (n) {
    case 1: return f(std::integral_constant<int, 1>{});
    case 2: return f(std::integral_constant<int, 2>{});
    case 3: return f(std::integral_constant<int, 3>{});
    default: return f(std::integral_constant<int, 4>{});
    }
}

// The user's data and the coordinates the parameters live in; strides in elements.
struct Data {
    const void* x;
    Size n, d, row_stride, column_stride;
    const double* weight;  // or null: every row counts once
    Size weight_stride;
    const double *center, *scale;
};

// Standardised rows, and how much each counts.
template <class T> struct Rows {
    const T* z;
    const T* weight;
    Size stride;
    int count;  // whole strips
};

// How many rows are worked on at a time; depends on the shape of the problem alone.
template <class T> struct Plan {
    int chunk;    // rows, a multiple of every strip
    Size stride;  // one cache line more, so that columns do not compete for the same cache sets
    Plan(Size n, Size d, Size K) {
        constexpr Size strip = 96, cache = 256 * 1024 / sizeof(T);
        const Size wanted = std::min<Size>(cache / (2 * d + K) / strip * strip, 768);
        chunk = int(std::max(strip, std::min(wanted, round_up(n, strip))));
        stride = chunk + 64 / sizeof(T);
    }
};

// z = (x - center) / scale for `count` rows, of which row i begins with the number offset(i) of the data; zeros up to `padded`.
//
// Values too far out to be squared are brought to where they can be, and NaN with them.
template <class T, class Offset>
void pack(const Data& data, const double* inverse_scale, Offset offset, int count, int padded, T* z, Size stride) {
    constexpr int N = LANES<double>, BLOCK = 64 / sizeof(T);  // rows at a time: a cache line of z
    const Vec<double> far = fill<double>(Format<T>::farthest);
    for (int i0 = 0; i0 < padded; i0 += BLOCK)
        for (Size j = 0; j < data.d; ++j) {
            const double c = data.center[j], s = inverse_scale[j];
            const T* from = static_cast<const T*>(data.x) + j * data.column_stride;
            T* to = z + j * stride + i0;
            const auto standardise = [&](int i, auto x) EMKIT_INLINE {
                narrow(smaller<double>(larger<double>((lanes_of(x) - c) * s, -far), far), to + i);
            };
            const int here = std::min(BLOCK, count - i0);
            if (here == BLOCK) {
                for (int i = 0; i < BLOCK; i += N) standardise(i, [&](int n) { return double(from[offset(i0 + i + n)]); });
            } else {
                for (int i = 0; i < here; i += N)
                    standardise(i, [&](int n) { return double(from[offset(i0 + std::min(i + n, here - 1))]); });
                std::fill(to + std::max(here, 0), to + BLOCK, T(0));
            }
        }
}

// Calls use(begin, count, padded) for each chunk, its standardised rows being in z.
template <class T, class Use> void for_each_chunk(const Data& data, const Plan<T>& plan, T* z, Use use) {
    constexpr int strip = STRIP * LANES<T>;
    Buffer<double> inverse_scale(data.d);
    for (Size j = 0; j < data.d; ++j) inverse_scale[j] = 1.0 / data.scale[j];
    for (Size begin = 0; begin < data.n; begin += plan.chunk) {
        const int count = int(std::min<Size>(plan.chunk, data.n - begin));
        const int padded = int(round_up(count, strip));
        pack<T>(data, inverse_scale, [&](int i) { return (begin + i) * data.row_stride; }, count, padded, z, plan.stride);
        use(begin, count, padded);
    }
}

// Weights of a chunk relative to the largest of them, which is returned: float32 then holds weights of any size.
template <class T> double pack_weights(const Data& data, Size begin, int count, int padded, T* weight) {
    double unit = 1.0;
    if (data.weight == nullptr) {
        std::fill(weight, weight + count, T(1));
    } else {
        const double* w = data.weight + begin * data.weight_stride;
        unit = 0.0;
        for (int i = 0; i < count; ++i) unit = std::max(unit, w[i * data.weight_stride]);
        const double inverse = unit > 0.0 ? 1.0 / unit : 0.0;
        for (int i = 0; i < count; ++i) weight[i] = T(w[i * data.weight_stride] * inverse);
    }
    std::fill(weight + count, weight + padded, T(0));
    return unit;
}

// Sum in double precision of `count` numbers, a multiple of LANES<T>; several chains of additions run side by side.
template <class T> double double_sum(const T* x, int count) {
    constexpr int N = LANES<T>;
    double partial[N] = {};
    for (int i = 0; i < count; i += N)
        for (int lane = 0; lane < N; ++lane) partial[lane] += x[i + lane];
    for (int lane = 1; lane < N; ++lane) partial[0] += partial[lane];
    return partial[0];
}

// Joint log-probabilities (K, stride) of one vector of rows become exponentials relative to the highest of them.
template <class T> struct Softmax {
    Vec<T> highest, total;
    Softmax(T* joint, Size K, Size stride) : highest(fill<T>(Format<T>::least_log_prob)), total{} {
        for (Size k = 0; k < K; ++k) highest = larger<T>(load(joint + k * stride), highest);
        for (Size k = 0; k < K; ++k) {
            const Vec<T> e = exp<T>(load(joint + k * stride) - highest);
            store<T>(joint + k * stride, e);
            total += e;
        }
        total = larger<T>(total, fill<T>(T(1)));  // less than 1 only if every component is switched off
    }
    Vec<T> log_density() const { return highest + log<T>(total); }
};

// The rows with a responsibility that matters, moved together; `memory` holds d columns and the responsibilities.
template <class T> Rows<T> compact(const Rows<T>& rows, Size d, T* memory, Size* kept) {
    const Size stride = rows.stride;
    Size count = 0;
    for (Size i = 0; i < rows.count; ++i) {
        kept[count] = i;
        count += rows.weight[i] > T(NEGLIGIBLE);
    }
    const Size padded = round_up(count, STRIP * LANES<T>);
    T* weight = memory + d * stride;
    for (Size t = 0; t < padded; ++t) weight[t] = t < count ? rows.weight[kept[t]] : T(0);
    for (Size t = count; t < padded; ++t) kept[t] = 0;
    for (Size j = 0; j < d; ++j)
        for (Size t = 0; t < padded; ++t) memory[j * stride + t] = rows.z[j * stride + kept[t]];
    return {memory, weight, stride, int(padded)};
}

// Components or states first .. last - 1.
struct Range {
    Size first, last;
    Size count() const { return last - first; }
};

// A shape provides
//   log_joint(rows, joint, components)  joint[(k - first) * stride + i] for every row and these components, never NaN
//   accumulate(k, rows, unit)           adds unit * (the sums over rows, weighted by their responsibility) to its totals
//   accumulate_all(rows, unit, count)   the same for sums over components, given the responsibilities of `count` as weights
//   constant(k)                         what log_joint adds in T, as it should be
//   WORTH_MOVING                        the share of rows below which moving them together costs less than it saves

// What rounding a component's constant to T takes from the log-probabilities of every row.
template <class T, class Shape> double lost(const Shape& shape, Size k) {
    return shape.constant(k) - double(T(shape.constant(k)));
}

// The second half of an E-step: sums over chunks of rows, given responsibilities that are 0 beyond the last row.
template <class T, class Shape> class Totals {
  public:
    Totals(Size stride, Size d, Shape& shape, double* counts)
        : d(d), stride(stride), shape(shape), counts(counts), moved((d + 1) * stride), kept(stride) {}

    void add(const T* z, const T* responsibilities, int padded, double unit, Range components) {
        for (Size k = components.first; k < components.last; ++k) {
            const T* resp = responsibilities + (k - components.first) * stride;
            Vec<T> total[STRIP], matter[STRIP];
            clear<T>(total);
            clear<T>(matter);
            for (int i = 0; i < padded; i += STRIP * LANES<T>)
                EMKIT_UNROLL for (int v = 0; v < STRIP; ++v) {
                    const Vec<T> r = load(resp + i + v * LANES<T>);
                    total[v] += r;
                    matter[v] += r > T(NEGLIGIBLE) ? fill<T>(T(1)) : Vec<T>{};
                }
            counts[k] += unit * sum<T>(total[0] + total[1] + total[2]);
            const double share = double(sum<T>(matter[0] + matter[1] + matter[2])) / padded;
            if (share == 0.0) continue;
            const Rows<T> rows{z, resp, stride, padded};
            shape.accumulate(k, share <= Shape::WORTH_MOVING ? compact<T>(rows, d, moved, kept) : rows, unit);
        }
    }

  private:
    const Size d, stride;
    Shape& shape;
    double* const counts;
    Buffer<T> moved;
    Buffer<Size> kept;
};

// One E-step of a mixture.
template <class T, class Shape> double expect(const Data& data, Size K, Shape& shape, double* counts) {
    const Plan<T> plan(data.n, data.d, K);
    Buffer<T> z(data.d * plan.stride), joint(K * plan.stride), weight(plan.stride), log_density(plan.stride);
    Totals<T, Shape> totals(plan.stride, data.d, shape, counts);
    double loglik = 0.0;
    for_each_chunk<T>(data, plan, z, [&](Size begin, int count, int padded) {
        const double unit = pack_weights<T>(data, begin, count, padded, weight);
        if (unit == 0.0) return;
        shape.log_joint(Rows<T>{z, weight, plan.stride, padded}, joint, {0, K});

        for (int i = 0; i < padded; i += LANES<T>) {
            const Softmax<T> softmax(joint + i, K, plan.stride);
            const Vec<T> w = load(weight + i), share = w / softmax.total;
            store<T>(log_density + i, w * softmax.log_density());
            for (Size k = 0; k < K; ++k) store<T>(joint + k * plan.stride + i, load(joint + k * plan.stride + i) * share);
        }
        loglik += unit * double_sum<T>(log_density, padded);
        totals.add(z, joint, padded, unit, {0, K});
    });
    // The constants were rounded by the same amount for every row; the rest of the rounding averages out.
    for (Size k = 0; k < K; ++k)
        if (counts[k] > 0.0) loglik += counts[k] * lost<T>(shape, k);
    return loglik;
}

// out (n, K) = log-probabilities.
template <class T, class Shape> void log_prob(const Data& data, Size K, Shape& shape, double* out) {
    const Plan<T> plan(data.n, data.d, K);
    Buffer<T> z(data.d * plan.stride), joint(K * plan.stride);
    Buffer<double> rounding(K);
    for (Size k = 0; k < K; ++k) rounding[k] = lost<T>(shape, k);
    for_each_chunk<T>(data, plan, z, [&](Size begin, int count, int padded) {
        shape.log_joint(Rows<T>{z, nullptr, plan.stride, padded}, joint, {0, K});
        double* row = out + begin * K;
        for (int i = 0; i < count; ++i, row += K)
            for (Size k = 0; k < K; ++k) row[k] = double(joint[k * plan.stride + i]) + rounding[k];
    });
}

// Sums for given responsibilities (n, K).
template <class T, class Shape> void summarize(const Data& data, Size K, Shape& shape, const double* resp, double* counts) {
    const Plan<T> plan(data.n, data.d, K);
    Buffer<T> z(data.d * plan.stride), joint(K * plan.stride);
    Totals<T, Shape> totals(plan.stride, data.d, shape, counts);
    for_each_chunk<T>(data, plan, z, [&](Size begin, int count, int padded) {
        const double* row = resp + begin * K;
        constexpr bool as_they_are = std::is_same_v<T, double>;  // float32 holds responsibilities of any size in units
        const double unit = as_they_are ? 1.0 : *std::max_element(row, row + count * K);
        if (unit == 0.0) return;
        for (int i = 0; i < count; ++i, row += K)
            for (Size k = 0; k < K; ++k) joint[k * plan.stride + i] = T(as_they_are ? row[k] : row[k] / unit);
        for (Size k = 0; k < K; ++k) std::fill(joint + k * plan.stride + count, joint + k * plan.stride + padded, T(0));
        totals.add(z, joint, padded, unit, {0, K});
        shape.accumulate_all(Rows<T>{z, joint, plan.stride, padded}, unit, K);
    });
}

// Where the posterior goes; null where it is not wanted.
struct Posterior {
    double *log_density, *responsibilities;
    Size* labels;
};

template <class T, class Shape> void infer(const Data& data, Size K, Shape& shape, const Posterior& out) {
    const Plan<T> plan(data.n, data.d, K);
    const Size stride = plan.stride;
    Buffer<T> z(data.d * stride), joint(K * stride), log_density(stride), label(stride);
    for_each_chunk<T>(data, plan, z, [&](Size begin, int count, int padded) {
        shape.log_joint(Rows<T>{z, nullptr, stride, padded}, joint, {0, K});
        if (out.labels != nullptr) {
            for (int i = 0; i < padded; i += LANES<T>) {
                Vec<T> highest = load(joint + i), best{};
                for (Size k = 1; k < K; ++k) {
                    const Vec<T> l = load(joint + k * stride + i);
                    best = l > highest ? fill<T>(T(k)) : best;
                    highest = larger<T>(l, highest);
                }
                store<T>(label + i, best);
            }
            for (int i = 0; i < count; ++i) out.labels[begin + i] = Size(label[i]);
        }
        if (out.log_density == nullptr && out.responsibilities == nullptr) return;
        for (int i = 0; i < padded; i += LANES<T>) {
            const Softmax<T> softmax(joint + i, K, stride);
            store<T>(log_density + i, softmax.log_density());
        }
        if (out.log_density != nullptr) std::copy(log_density + 0, log_density + count, out.log_density + begin);
        if (out.responsibilities == nullptr) return;
        for (int i = 0; i < count; ++i) {  // normalised in double: they sum to 1 to the last digit
            double* row = out.responsibilities + (begin + i) * K;
            double total = 0.0;
            for (Size k = 0; k < K; ++k) total += row[k] = joint[k * stride + i];
            const double share = 1.0 / std::max(total, 1.0);
            for (Size k = 0; k < K; ++k) row[k] *= share;
        }
    });
}

}  // namespace emkit
