// Hidden Markov chains: the kernels specified in chain.py.
//
// A sequence is worked on from both ends. Each direction carries the probabilities x of the rows it has seen, jointly
// with the state at the last of them:
//
//   p = M x ;  x <- b p        M = A' from the left, A from the right; b: densities of the row
//
// Up to the middle each stores its x. Beyond it, it meets what the other has stored there, y, and with s = sum(p y)
//
//   probabilities of the states at this row   p y / s
//   expected transitions to it                M (x' (y / s))
//
// so one more array suffices, and the directions can run at once. Every row is scaled by a power of two, which is exact;
// their exponents add up to the log-likelihood.

#include "door.hpp"

#include <memory>
#include <thread>

namespace emkit {
namespace {

constexpr int N = LANES<double>;
constexpr int BLOCK = 64;                                                  // rows worked on at a time
constexpr double LEAST = 1e-200;                                           // chain.py
constexpr double MIXING = 1e-100;                                          // chain.py
constexpr double LOWEST = std::numeric_limits<double>::lowest() / 4;       // of a row that is not impossible
constexpr double IMPOSSIBLE = -std::numeric_limits<double>::infinity();
constexpr double LOG_2 = 0.69314718055994530942;
constexpr Size WORTH_A_THREAD = 1 << 18;                                   // multiplications of one direction

Size round_up(Size size, Size multiple) { return (size + multiple - 1) / multiple * multiple; }

// 2^-e for the exponent e of a positive number; of 0 as if it were the smallest.
inline double scale_of(double total, Size& exponents) {
    std::uint64_t bits;
    std::memcpy(&bits, &total, sizeof bits);
    const std::uint64_t field = bits >> 52;
    exponents += Size(field) - 1023;
    bits = (2046 - field) << 52;
    double scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return scale;
}

// Transition matrices ----------------------------------------------------------------------------------------------------
//
// M[source][target]: transmat for the direction from the left, its transpose for the one from the right. All have
//   stride                        of rows of states
//   densities(l, step, ...)       b = exp(l - max l) of `count` rows, `step` apart; returns the sum of the maxima
//   run(b, p, x, ...)             the recursion, row by row; x[-stride] is the row before
//   update(x, y, count, pairs)    pairs += x' y where M is not 0
//   collect(pairs, add)           add(source, target, M * pairs)

// How the caller's matrix is read.
struct Transitions {
    const double* transmat;
    Size K;
    bool transposed;
    double operator()(Size source, Size target) const { return transposed ? transmat[target * K + source] : transmat[source * K + target]; }
};

// Few states: everything in registers.
template <int K> class Few {
  public:
    static constexpr Size stride = K, size = K * K;

    explicit Few(const Transitions& A) {
        for (int i = 0; i < K; ++i)
            for (int j = 0; j < K; ++j) M[i][j] = A(i, j);
    }

    double densities(const double* l, Size step, int count, double* b) const {
        double highest = 0.0;
        for (int r = 0; r < count; ++r, l += step) {
            double m = LOWEST;
            EMKIT_UNROLL for (int k = 0; k < K; ++k) m = l[k] > m ? l[k] : m;
            EMKIT_UNROLL for (int k = 0; k < K; ++k) b[r * K + k] = l[k] - m;
            highest += m;
        }
        for (int i = 0; i < count * K; i += N) store<double>(b + i, exp<double>(load(b + i)));
        return highest;
    }

    void run(const double* b, double* p, double* x, int count, double& total, Size& exponents) const {
        double m[K][K], now[K], sum = total;
        std::memcpy(m, M, sizeof m);
        std::memcpy(now, x - K, sizeof now);
        for (int r = 0; r < count; ++r) {
            const double scale = scale_of(sum, exponents);
            double to[K];
            EMKIT_UNROLL for (int j = 0; j < K; ++j) {
                to[j] = now[0] * m[0][j];
                EMKIT_UNROLL for (int i = 1; i < K; ++i) to[j] += now[i] * m[i][j];
            }
            sum = 0.0;
            EMKIT_UNROLL for (int j = 0; j < K; ++j) {
                now[j] = to[j] * (b[r * K + j] * scale);
                sum += now[j];
            }
            std::memcpy(p + r * K, to, sizeof to);
            std::memcpy(x + r * K, now, sizeof now);
        }
        total = sum;
    }

    void update(const double* x, const double* y, int count, double* pairs) const {
        double sum[K][K] = {};
        for (int r = 0; r < count; ++r)
            EMKIT_UNROLL for (int i = 0; i < K; ++i)
                EMKIT_UNROLL for (int j = 0; j < K; ++j) sum[i][j] += x[r * K + i] * y[r * K + j];
        for (int i = 0; i < K; ++i)
            for (int j = 0; j < K; ++j) pairs[i * K + j] += sum[i][j];
    }

    template <class Add> void collect(const double* pairs, Add add) const {
        for (int i = 0; i < K; ++i)
            for (int j = 0; j < K; ++j) add(i, j, M[i][j] * pairs[i * K + j]);
    }

  private:
    double M[K][K];
};

// Rows of states padded to whole vectors, with zeros.
class Padded {
  public:
    const Size K, stride;

    double densities(const double* l, Size step, int count, double* b) const {
        double total = 0.0;
        for (int r = 0; r < count; ++r, l += step, b += stride) {
            std::copy(l, l + K, b);
            std::fill(b + K, b + stride, IMPOSSIBLE);
            Vec<double> m = load(b);
            for (Size k = N; k < stride; k += N) m = larger<double>(load(b + k), m);
            double lane[N], highest = LOWEST;
            store<double>(lane, m);
            for (int n = 0; n < N; ++n) highest = std::max(highest, lane[n]);
            for (Size k = 0; k < stride; k += N) store<double>(b + k, exp<double>(load(b + k) - highest));
            total += highest;
        }
        return total;
    }

  protected:
    explicit Padded(Size K) : K(K), stride(round_up(K, std::max(4, N))) {}

    // The recursion, given product(x, k, p): p[w] = (M x)[k + w * N ...] for W vectors.
    template <class Product>
    void recur(const double* b, double* p, double* x, int count, double& total, Size& exponents, Product product) const {
        for (int r = 0; r < count; ++r, b += stride, p += stride, x += stride) {
            const double scale = scale_of(total, exponents);
            Vec<double> sums{};
            for (Size k = 0; k < stride; k += 4 * N)
                with_size(int(std::min<Size>(4, (stride - k) / N)), [&](auto width) EMKIT_INLINE {
                    constexpr int W = decltype(width)::value;
                    Vec<double> to[W];
                    product(x - stride, k, to);
                    EMKIT_UNROLL for (int w = 0; w < W; ++w) {
                        const Vec<double> now = to[w] * (load(b + k + w * N) * scale);
                        store<double>(p + k + w * N, to[w]);
                        store<double>(x + k + w * N, now);
                        sums += now;
                    }
                });
            total = sum<double>(sums);
        }
    }
};

class Dense : public Padded {
  public:
    const Size size;

    explicit Dense(const Transitions& A) : Padded(A.K), size(stride * stride), M(size) {
        for (Size i = 0; i < K; ++i)
            for (Size j = 0; j < K; ++j) M[i * stride + j] = A(i, j);
    }

    void run(const double* b, double* p, double* x, int count, double& total, Size& exponents) const {
        recur(b, p, x, count, total, exponents, [&](const double* from, Size k, auto& to) EMKIT_INLINE {
            constexpr int W = std::extent_v<std::remove_reference_t<decltype(to)>>, U = W < 3 ? 4 : 2;
            Vec<double> part[U][W];  // U sums, so that no addition waits for the last
            clear<double>(part);
            const double* m = M + k;
            for (Size i = 0; i < stride; i += U, m += U * stride)
                EMKIT_UNROLL for (int u = 0; u < U; ++u)
                    EMKIT_UNROLL for (int w = 0; w < W; ++w) part[u][w] += from[i + u] * load(m + u * stride + w * N);
            EMKIT_UNROLL for (int w = 0; w < W; ++w) {
                to[w] = part[0][w];
                EMKIT_UNROLL for (int u = 1; u < U; ++u) to[w] += part[u][w];
            }
        });
    }

    void update(const double* x, const double* y, int count, double* pairs) const {
        for (Size i = 0; i < stride; i += 4)
            for (Size j = 0; j < stride; j += 3 * N)
                with_size(int(std::min<Size>(3, (stride - j) / N)), [&](auto width) EMKIT_INLINE {
                    rank_update<std::min(3, decltype(width)::value)>(x + i, y + j, count, pairs + i * stride + j);
                });
    }

    template <class Add> void collect(const double* pairs, Add add) const {
        for (Size i = 0; i < K; ++i)
            for (Size j = 0; j < K; ++j) add(i, j, M[i * stride + j] * pairs[i * stride + j]);
    }

  private:
    template <int Q> EMKIT_KEEP void rank_update(const double* x, const double* y, int count, double* pairs) const {
        Vec<double> tile[4][Q];
        clear<double>(tile);
        for (int r = 0; r < count; ++r, x += stride, y += stride)
            EMKIT_UNROLL for (int p = 0; p < 4; ++p)
                EMKIT_UNROLL for (int q = 0; q < Q; ++q) tile[p][q] += x[p] * load(y + q * N);
        EMKIT_UNROLL for (int p = 0; p < 4; ++p)
            EMKIT_UNROLL for (int q = 0; q < Q; ++q) {
                double* to = pairs + p * stride + q * N;
                store<double>(to, load(to) + tile[p][q]);
            }
    }

    Buffer<double> M;
};

// Which diagonals, target - source, hold a transition; the largest first.
std::vector<Size> diagonals(const Transitions& A) {
    std::vector<Size> offsets;
    for (Size o = A.K - 1; o > -A.K; --o)
        for (Size i = std::max<Size>(0, -o); i < std::min(A.K, A.K - o); ++i)
            if (A(i, i + o) != 0.0) {
                offsets.push_back(o);
                break;
            }
    return offsets;
}

// A few diagonals: left-right and banded chains.
class Band : public Padded {
  public:
    const std::vector<Size> offsets;
    const Size size;

    explicit Band(const Transitions& A) : Padded(A.K), offsets(diagonals(A)), size(stride * Size(offsets.size())), M(size) {
        for (size_t d = 0; d < offsets.size(); ++d)
            for (Size j = std::max<Size>(0, offsets[d]); j < std::min(K, K + offsets[d]); ++j) M[d * stride + j] = A(j - offsets[d], j);
    }

    // Outside the matrix M is 0, and x another row or the margin: finite.
    void run(const double* b, double* p, double* x, int count, double& total, Size& exponents) const {
        recur(b, p, x, count, total, exponents, [&](const double* from, Size k, auto& to) EMKIT_INLINE {
            constexpr int W = std::extent_v<std::remove_reference_t<decltype(to)>>;
            clear<double>(to);
            const double* m = M + k;
            for (const Size o : offsets) {
                EMKIT_UNROLL for (int w = 0; w < W; ++w) to[w] += load(m + w * N) * load(from + k + w * N - o);
                m += stride;
            }
        });
    }

    void update(const double* x, const double* y, int count, double* pairs) const {
        for (const Size o : offsets) {
            for (Size k = 0; k < stride; k += 4 * N)
                with_size(int(std::min<Size>(4, (stride - k) / N)), [&](auto width) EMKIT_INLINE {
                    constexpr int W = decltype(width)::value;
                    Vec<double> sums[W];
                    clear<double>(sums);
                    const double *from = x + k - o, *to = y + k;
                    for (int r = 0; r < count; ++r, from += stride, to += stride)
                        EMKIT_UNROLL for (int w = 0; w < W; ++w) sums[w] += load(from + w * N) * load(to + w * N);
                    EMKIT_UNROLL for (int w = 0; w < W; ++w) store<double>(pairs + k + w * N, load(pairs + k + w * N) + sums[w]);
                });
            pairs += stride;
        }
    }

    template <class Add> void collect(const double* pairs, Add add) const {
        for (size_t d = 0; d < offsets.size(); ++d)
            for (Size j = std::max<Size>(0, offsets[d]); j < std::min(K, K + offsets[d]); ++j)
                add(j - offsets[d], j, M[d * stride + j] * pairs[d * stride + j]);
    }

  private:
    Buffer<double> M;
};

// Calls use(type), with the kind of matrix that suits these transitions.
template <class Matrix> struct Type {
    using type = Matrix;
};
template <class Use> void with_matrix(const Transitions& A, Use use) {
    if (A.K <= 4) with_size(int(A.K), [&](auto K) { use(Type<Few<decltype(K)::value>>{}); });
    else if (A.K >= 2 * N && Size(diagonals(A).size()) <= A.K / 4) use(Type<Band>{});
    else use(Type<Dense>{});
}

// Smoothing --------------------------------------------------------------------------------------------------------------

// One sequence.
struct Sequence {
    double* log_prob;  // (T, K)
    double* kept;      // (T, K): what a direction stores up to the middle; beyond it, the log_prob it has overwritten
    Size T;
};

template <class Matrix> class Direction {
  public:
    // `first` are the probabilities before anything is seen: startprob from the left, ones from the right.
    Direction(const Transitions& A, const double* first)
        : K(A.K), left(!A.transposed), first(first), M(A), stride(M.stride), b(BLOCK * stride + N), p(BLOCK * stride + N),
          y(BLOCK * stride + N), rows((BLOCK + 1) * stride + 2 * margin()), pairs(M.size) {}

    double total;    // of the last row
    Size exponents;  // by which the rows were scaled
    double highest;  // sum of the rows' highest log-densities
    bool good;       // nothing was lost

    // Go to the middle.
    void store(const Sequence& sequence, Size count) {
        seen = exponents = 0;
        highest = 0.0;
        good = true;
        std::fill(pairs + 0, pairs + M.size, 0.0);
        for_each_block(sequence, count, [&](Size row, int size) {
            for (int r = 0; r < size; ++r) std::copy(x() + r * stride, x() + r * stride + K, at(sequence.kept, sequence, row + r));
        });
    }

    // Go on to the other end.
    void meet(const Sequence& sequence, Size count, double weight) {
        const Size middle = seen;
        for_each_block(sequence, count, [&](Size row, int size) {
            for (int r = 0; r < size; ++r) {
                double *met = y + r * stride, *probability = p + r * stride;
                double *stored = at(sequence.kept, sequence, row + r), *l = at(sequence.log_prob, sequence, row + r);
                std::copy(stored, stored + K, met);
                double s = 0.0;
                for (Size k = 0; k < K; ++k) s += probability[k] * met[k];
                good &= s >= LEAST;
                const double share = weight / s;
                for (Size k = 0; k < K; ++k) {
                    met[k] *= share;
                    stored[k] = l[k];
                    l[k] = probability[k] * met[k];
                }
            }
            // The transition across the middle is left to the direction from the right.
            const int skipped = left && row == middle;
            M.update(x() + (skipped - 1) * stride, y + skipped * stride, size - skipped, pairs);
        });
    }

    void collect(double* transitions) const {
        M.collect(pairs, [&](Size source, Size target, double value) {
            transitions[left ? source * K + target : target * K + source] += value;
        });
    }

  private:
    Size margin() const { return stride; }
    double* x() { return rows + margin() + stride; }

    double* at(double* array, const Sequence& sequence, Size row) const {
        return array + (left ? row : sequence.T - 1 - row) * K;
    }

    // Calls use(row, size) after p and x of `size` rows are known; the row before is x[-stride].
    template <class Use> void for_each_block(const Sequence& sequence, Size count, Use use) {
        for (const Size end = seen + count; seen < end;) {
            const int size = int(std::min<Size>(BLOCK, end - seen)), starts = seen == 0;
            highest += M.densities(at(sequence.log_prob, sequence, seen), left ? K : -K, size, b);
            if (starts) {
                total = 0.0;
                for (Size k = 0; k < K; ++k) {
                    p[k] = first[k];
                    total += x()[k] = first[k] * b[k];
                }
            }
            M.run(b + starts * stride, p + starts * stride, x() + starts * stride, size - starts, total, exponents);
            use(seen, size);
            std::copy(x() + (size - 1) * stride, x() + size * stride, x() - stride);
            seen += size;
        }
    }

    const Size K;
    const bool left;
    const double* const first;
    const Matrix M;
    const Size stride;
    Buffer<double> b, p, y, rows, pairs;
    Size seen;
};

// The same in logarithms ---------------------------------------------------------------------------------------------------

class Logarithms {
  public:
    Logarithms(const double* startprob, const double* transmat, Size K)
        : K(K), stride(round_up(K, N)), start(stride), forth(stride * K), back(stride * K), before(stride), after(stride), joint(stride) {
        std::fill(start + 0, start + stride, IMPOSSIBLE);
        std::fill(forth + 0, forth + stride * K, IMPOSSIBLE);
        std::fill(back + 0, back + stride * K, IMPOSSIBLE);
        for (Size i = 0; i < K; ++i) {
            start[i] = std::log(startprob[i]);
            for (Size j = 0; j < K; ++j) forth[i * stride + j] = back[j * stride + i] = std::log(transmat[i * K + j]);
        }
    }

    // Log-likelihood; log_prob becomes weighted probabilities, and what was expected is added to `transitions`.
    double smooth(const Sequence& s, double weight, double* transitions) {
        for (Size t = 0; t < s.T; ++t) {
            advance(s, t);
            std::copy(before + 0, before + K, s.kept + t * K);
        }
        const double loglik = sum_of(before);
        if (loglik == IMPOSSIBLE) {
            std::fill(s.log_prob, s.log_prob + s.T * K, 0.0);
            return loglik;
        }
        std::fill(after + 0, after + stride, IMPOSSIBLE);
        for (Size t = s.T - 1; t >= 0; --t) {
            double *l = s.log_prob + t * K, *forward = s.kept + t * K;
            if (t == s.T - 1) std::fill(joint + 0, joint + K, 0.0);
            else {
                for (Size i = 0; i < K; ++i) count(forth + i * stride, forward[i] - loglik, weight, transitions + i * K);
                product(back, after, joint);
            }
            for (Size k = 0; k < K; ++k) {
                after[k] = l[k] + joint[k];
                l[k] = weight * std::exp(forward[k] + joint[k] - loglik);
            }
        }
        return loglik;
    }

    // Log-densities given the rows before; log_prob becomes probabilities given the rows up to each.
    void filter(const Sequence& s, double* increments) {
        for (Size t = 0; t < s.T; ++t) {
            advance(s, t);
            const double total = increments[t] = sum_of(before);
            for (Size k = 0; k < K; ++k) {
                if (total > IMPOSSIBLE) before[k] -= total;
                s.log_prob[t * K + k] = std::exp(before[k]);
            }
        }
    }

  private:
    void advance(const Sequence& s, Size t) {
        if (t == 0) std::copy(start + 0, start + K, joint + 0);
        else product(forth, before, joint);
        for (Size k = 0; k < K; ++k) before[k] = joint[k] + s.log_prob[t * K + k];
    }

    double sum_of(const double* x) const {
        const double highest = *std::max_element(x, x + K);
        if (highest == IMPOSSIBLE) return highest;
        double total = 0.0;
        for (Size k = 0; k < K; ++k) total += std::exp(x[k] - highest);
        return highest + std::log(total);
    }

    void product(const double* matrix, const double* x, double* to) const {
        for (Size k = 0; k < stride; k += N) {
            Vec<double> highest = fill<double>(LOWEST), total{};
            for (Size i = 0; i < K; ++i) highest = larger<double>(x[i] + load(matrix + i * stride + k), highest);
            for (Size i = 0; i < K; ++i) total += exp<double>(x[i] + load(matrix + i * stride + k) - highest);
            const Vec<double> sums = highest + log<double>(larger<double>(total, fill<double>(1.0)));
            store<double>(to + k, total > 0.0 ? sums : fill<double>(IMPOSSIBLE));
        }
    }

    // Transitions from one state.
    void count(const double* log_trans, double forward, double weight, double* transitions) {
        if (forward == IMPOSSIBLE) return;
        for (Size k = 0; k < stride; k += N) store<double>(joint + k, exp<double>(forward + load(log_trans + k) + load(after + k)));
        for (Size k = 0; k < K; ++k) transitions[k] += weight * joint[k];
    }

    const Size K, stride;
    Buffer<double> start, forth, back, before, after, joint;
};

// What all kernels are given.
struct Chain {
    double* log_prob;
    Size n, K;
    const Size* lengths;
    Size count;
    const double *startprob, *transmat;

    // Calls use(s, rows before, T).
    template <class Use> void for_each(Use use) const {
        for (Size s = 0, begin = 0; s < count; begin += lengths[s++]) use(s, begin, lengths[s]);
    }
    Size longest() const { return count ? *std::max_element(lengths, lengths + count) : 0; }
};

template <class Left, class Right> void both(bool at_once, Left left, Right right) {
    if (at_once) {
        std::thread other(right);
        left();
        other.join();
    } else {
        left();
        right();
    }
}

template <class Matrix>
void smooth(const Chain& chain, const double* weights, double* logliks, int n_threads, double* starts, double* transitions) {
    const Size K = chain.K;
    const std::vector<double> ones(K, 1.0);
    Direction<Matrix> left({chain.transmat, K, false}, chain.startprob), right({chain.transmat, K, true}, ones.data());
    const std::unique_ptr<double[]> kept(new double[chain.longest() * K]);
    std::unique_ptr<Logarithms> logarithms;
    chain.for_each([&](Size s, Size begin, Size T) {
        const Sequence sequence{chain.log_prob + begin * K, kept.get(), T};
        const double weight = weights ? weights[s] : 1.0;
        const Size middle = T / 2;
        const bool at_once = n_threads > 1 && T * K * (K + 8) > WORTH_A_THREAD;
        both(at_once, [&] { left.store(sequence, middle); }, [&] { right.store(sequence, T - middle); });
        both(at_once, [&] { left.meet(sequence, T - middle, weight); }, [&] { right.meet(sequence, middle, weight); });
        if (left.good && right.good) {
            logliks[s] = left.highest + LOG_2 * double(left.exponents) + std::log(left.total);
            left.collect(transitions);
            right.collect(transitions);
        } else {
            std::copy(kept.get(), kept.get() + T * K, sequence.log_prob);
            if (!logarithms) logarithms.reset(new Logarithms(chain.startprob, chain.transmat, K));
            logliks[s] = logarithms->smooth(sequence, weight, transitions);
        }
        for (Size k = 0; k < K; ++k) starts[k] += sequence.log_prob[k];
    });
}

// Filtering --------------------------------------------------------------------------------------------------------------

template <class Matrix> void filter(const Chain& chain, double* increments) {
    const Size K = chain.K;
    const Matrix M({chain.transmat, K, false});
    const Size stride = M.stride;
    Buffer<double> b(BLOCK * stride + N), p(BLOCK * stride + N), rows((BLOCK + 1) * stride + 2 * stride);
    double* const x = rows + 2 * stride;
    std::unique_ptr<Logarithms> logarithms;
    const bool mixing = *std::min_element(chain.transmat, chain.transmat + K * K) >= MIXING;
    chain.for_each([&](Size, Size begin, Size T) {
        double *l = chain.log_prob + begin * K, *increment = increments + begin;
        M.densities(l, K, 1, b);
        double total = 0.0;
        for (Size k = 0; k < K; ++k) total += x[k] = chain.startprob[k] * b[k];
        if (!mixing || !(total >= LEAST)) {
            if (!logarithms) logarithms.reset(new Logarithms(chain.startprob, chain.transmat, K));
            return logarithms->filter({l, nullptr, T}, increment);
        }
        for (Size t = 0; t < T; t += BLOCK) {
            const int count = int(std::min<Size>(BLOCK, T - t));
            M.densities(l, K, count, b);
            for (int r = 0; r < count; ++r, l += K) {
                Size exponents = 0;
                double before = 1.0, highest = LOWEST;
                if (t + r > 0) {
                    before = total;
                    M.run(b + r * stride, p, x + r * stride, 1, total, exponents);
                }
                for (Size k = 0; k < K; ++k) highest = std::max(highest, l[k]);
                *increment++ = total > 0.0 ? std::log(total / before) + LOG_2 * double(exponents) + highest : IMPOSSIBLE;
                const double share = total > 0.0 ? 1.0 / total : 0.0;
                for (Size k = 0; k < K; ++k) l[k] = x[r * stride + k] * share;
            }
            std::copy(x + (count - 1) * stride, x + count * stride, x - stride);
        }
    });
}

// The most probable path -------------------------------------------------------------------------------------------------

// Logarithms of the transitions by diagonals or, if there are many, by source; for each target the sources in order.
class LogTransitions {
  public:
    const Size K, stride;

    explicit LogTransitions(const Transitions& A)
        : K(A.K), stride(round_up(K, N)), offsets(diagonals(A)), banded(Size(offsets.size()) <= K / 4),
          M(stride * (banded ? Size(offsets.size()) : K)) {
        std::fill(M + 0, M + stride * (banded ? Size(offsets.size()) : K), IMPOSSIBLE);
        for (Size i = 0; i < K; ++i)
            for (Size j = 0; j < K; ++j)
                if (!banded) M[i * stride + j] = std::log(A(i, j));
                else if (A(i, j) > 0.0) M[(std::find(offsets.begin(), offsets.end(), j - i) - offsets.begin()) * stride + j] = std::log(A(i, j));
        for (int n = 0; n < N; ++n) lane[n] = n;
    }

    // best = max over sources of x + M, and the source; `margin` values on either side of x are not NaN.
    template <class Index> void advance(const double* x, const double* l, double* best, Index* source) const {
        for (Size k = 0; k < stride; k += 4 * N)
            with_size(int(std::min<Size>(4, (stride - k) / N)), [&](auto width) EMKIT_INLINE {
                constexpr int W = decltype(width)::value;
                Vec<double> highest[W], from[W];
                clear<double>(from);
                EMKIT_UNROLL for (int w = 0; w < W; ++w) highest[w] = fill<double>(IMPOSSIBLE);
                const auto consider = [&](int w, Vec<double> candidate, Vec<double> i) EMKIT_INLINE {
                    from[w] = candidate > highest[w] ? i : from[w];
                    highest[w] = larger<double>(candidate, highest[w]);
                };
                const double* m = M + k;
                if (banded) {
                    for (const Size o : offsets) {
                        EMKIT_UNROLL for (int w = 0; w < W; ++w)
                            consider(w, load(x + k + w * N - o) + load(m + w * N), load(lane) + double(k + w * N - o));
                        m += stride;
                    }
                } else {
                    for (Size i = 0; i < K; ++i, m += stride)
                        EMKIT_UNROLL for (int w = 0; w < W; ++w) consider(w, x[i] + load(m + w * N), fill<double>(double(i)));
                }
                double sources[W * N];
                EMKIT_UNROLL for (int w = 0; w < W; ++w) {
                    store<double>(best + k + w * N, highest[w]);
                    store<double>(sources + w * N, from[w]);
                }
                const Size count = std::min<Size>(W * N, K - k);
                for (Size n = 0; n < count; ++n) {
                    source[k + n] = Index(sources[n]);
                    best[k + n] += l[k + n];
                }
            });
    }

  private:
    const std::vector<Size> offsets;
    const bool banded;
    Buffer<double> M;
    double lane[N];
};

template <class Index> void decode(const Chain& chain, Size* path, double* scores) {
    const Size K = chain.K;
    const LogTransitions M({chain.transmat, K, false});
    const Size stride = M.stride;
    Buffer<double> rows(4 * stride);  // two rows, with margins for the diagonals
    const std::unique_ptr<Index[]> sources(new Index[chain.longest() * K]);
    chain.for_each([&](Size s, Size begin, Size T) {
        const double* l = chain.log_prob + begin * K;
        double *x = rows + stride, *next = rows + 2 * stride;
        for (Size k = 0; k < K; ++k) x[k] = std::log(chain.startprob[k]) + l[k];
        for (Size t = 1; t < T; ++t, std::swap(x, next)) M.advance(x, l + t * K, next, sources.get() + t * K);
        Size state = std::max_element(x, x + K) - x;
        scores[s] = x[state];
        for (Size t = T - 1; t > 0; --t) {
            path[begin + t] = state;
            state = sources[t * K + state];
        }
        path[begin] = state;
    });
}

// The door ---------------------------------------------------------------------------------------------------------------

template <class T, int DIMENSIONS> using InOut = nb::ndarray<T, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;
using Counts = nb::ndarray<const Size, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

Chain check(double* log_prob, size_t n, size_t K, const Counts& lengths, const Parameter<1>& startprob, const Parameter<2>& transmat) {
    if (K == 0) throw nb::value_error("at least one state is needed");
    check_shape("startprob", startprob, {K});
    check_shape("transmat", transmat, {K, K});
    Size total = 0;
    for (size_t s = 0; s < lengths.shape(0); ++s) {
        const Size length = lengths.data()[s];
        if (length < 1 || length > Size(n) - total) throw nb::value_error("lengths must be positive and add up to the rows of log_prob");
        total += length;
    }
    if (total != Size(n)) throw nb::value_error("lengths must be positive and add up to the rows of log_prob");
    return {log_prob, Size(n), Size(K), lengths.data(), Size(lengths.shape(0)), startprob.data(), transmat.data()};
}

nb::object forward_backward(const InOut<double, 2>& log_prob, const Counts& lengths, const std::optional<Parameter<1>>& weight,
                            const Parameter<1>& startprob, const Parameter<2>& transmat, const InOut<double, 1>& logliks, int n_threads) {
    const Chain chain = check(log_prob.data(), log_prob.shape(0), log_prob.shape(1), lengths, startprob, transmat);
    const size_t K = chain.K;
    if (weight) check_shape("weight", *weight, {lengths.shape(0)});
    check_shape("logliks", logliks, {lengths.shape(0)});
    auto starts = zeros({K}), transitions = zeros({K, K});
    {
        nb::gil_scoped_release released;
        with_matrix({chain.transmat, chain.K, false}, [&](auto type) {
            smooth<typename decltype(type)::type>(chain, weight ? weight->data() : nullptr, logliks.data(), n_threads, starts.data(),
                                                  transitions.data());
        });
    }
    return nb::make_tuple(starts, transitions);
}

void filter_chain(const InOut<double, 2>& log_prob, const Counts& lengths, const Parameter<1>& startprob, const Parameter<2>& transmat,
                  const InOut<double, 1>& increments) {
    const Chain chain = check(log_prob.data(), log_prob.shape(0), log_prob.shape(1), lengths, startprob, transmat);
    check_shape("increments", increments, {log_prob.shape(0)});
    nb::gil_scoped_release released;
    with_matrix({chain.transmat, chain.K, false}, [&](auto type) { filter<typename decltype(type)::type>(chain, increments.data()); });
}

void viterbi(const InOut<double, 2>& log_prob, const Counts& lengths, const Parameter<1>& startprob, const Parameter<2>& transmat,
             const InOut<Size, 1>& path, const InOut<double, 1>& scores) {
    const Chain chain = check(log_prob.data(), log_prob.shape(0), log_prob.shape(1), lengths, startprob, transmat);
    check_shape("path", path, {log_prob.shape(0)});
    check_shape("scores", scores, {lengths.shape(0)});
    nb::gil_scoped_release released;
    if (chain.K <= 256) decode<std::uint8_t>(chain, path.data(), scores.data());
    else decode<std::uint32_t>(chain, path.data(), scores.data());
}

}  // namespace

void define_chain(nb::module_& module) {
    const auto strict = [](const char* argument) { return nb::arg(argument).noconvert(); };  // never a silent copy
    module.def("forward_backward", &forward_backward, strict("log_prob"), strict("lengths"), strict("weight").none(), strict("startprob"),
               strict("transmat"), strict("logliks"), nb::arg("n_threads"));
    module.def("filter_chain", &filter_chain, strict("log_prob"), strict("lengths"), strict("startprob"), strict("transmat"),
               strict("increments"));
    module.def("viterbi", &viterbi, strict("log_prob"), strict("lengths"), strict("startprob"), strict("transmat"), strict("path"),
               strict("scores"));
}

}  // namespace emkit
