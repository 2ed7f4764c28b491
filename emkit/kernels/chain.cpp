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
#include <optional>
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

constexpr Size MOST_TOGETHER = 16;                                         // states of sequences advanced side by side
constexpr Size MOST_CUT = 4;                                               // states of a sequence cut into pieces
constexpr Size SHORT = 1024;                                               // rows of a sequence not worth cutting

// Multiplications of a pass through a sequence that take longer than to start a thread.
bool worth_a_thread(Size T, Size K) { return T * K * (K + 8) > 1 << 18; }

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

// One row; memmove would take longer to call than to run.
inline void copy_row(const double* from, double* to, Size K) {
    if (K < N) {
        EMKIT_UNROLL for (int k = 0; k < N; ++k)
            if (k < K) to[k] = from[k];
        return;
    }
    for (Size k = 0; k + N <= K; k += N) store<double>(to + k, load(from + k));
    store<double>(to + K - N, load(from + K - N));
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

// Rows of states padded to whole vectors, with zeros.
class Padded {
  public:
    const Size K, stride;

    double densities(const double* l, Size step, int count, double* b) const {
        double total = 0.0;
        for (int r = 0; r < count; ++r, l += step, b += stride) {
            copy_row(l, b, K);
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
    if (A.K >= 2 * N && Size(diagonals(A).size()) <= A.K / 4) use(Type<Band>{});
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
            for (int r = 0; r < size; ++r) copy_row(x() + r * stride, at(sequence.kept, sequence, row + r), K);
        });
    }

    // Go on to the other end.
    void meet(const Sequence& sequence, Size count, double weight) {
        const Size middle = seen;
        for_each_block(sequence, count, [&](Size row, int size) {
            for (int r = 0; r < size; ++r) {
                double *met = y + r * stride, *probability = p + r * stride;
                double *stored = at(sequence.kept, sequence, row + r), *l = at(sequence.log_prob, sequence, row + r);
                copy_row(stored, met, K);  // what follows in `met` stays 0
                Vec<double> sums{};
                for (Size k = 0; k < stride; k += N) sums += load(probability + k) * load(met + k);
                const double s = sum<double>(sums), share = weight / s;
                good &= s >= LEAST;
                copy_row(l, stored, K);
                for (Size k = 0; k < stride; k += N) {
                    const Vec<double> scaled = load(met + k) * share;
                    emkit::store<double>(met + k, scaled);
                    emkit::store<double>(probability + k, load(probability + k) * scaled);
                }
                copy_row(probability, l, K);
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

// In logarithms ------------------------------------------------------------------------------------------------------------

// Logarithms of the transitions by diagonals or, if there are many, by source; for each target the sources in order.
class LogTransitions {
  public:
    const Size K, stride;

  private:
    const std::vector<Size> offsets;
    const bool banded;

  public:
    const Size size;

    explicit LogTransitions(const Transitions& A)
        : K(A.K), stride(round_up(K, N)), offsets(diagonals(A)), banded(Size(offsets.size()) <= K / 4),
          size(stride * (banded ? Size(offsets.size()) : K)), M(size) {
        std::fill(M + 0, M + size, IMPOSSIBLE);
        for_each([&](Size i, Size j, Size place) { M[place] = std::log(A(i, j)); });
        for (int n = 0; n < N; ++n) lane[n] = n;
    }

    // Calls use(source, target, place) for each transition that is kept.
    template <class Use> void for_each(Use use) const {
        if (banded) {
            for (size_t d = 0; d < offsets.size(); ++d)
                for (Size j = std::max<Size>(0, offsets[d]); j < std::min(K, K + offsets[d]); ++j)
                    use(j - offsets[d], j, Size(d) * stride + j);
        } else {
            for (Size i = 0; i < K; ++i)
                for (Size j = 0; j < K; ++j) use(i, j, i * stride + j);
        }
    }

    // Calls use(w, x + M, sources, place) for W vectors of targets from k on; `stride` values around x are not NaN.
    template <int W, class Use> EMKIT_INLINE void candidates(const double* x, Size k, Use use) const {
        Size place = k;
        if (banded) {
            for (const Size o : offsets) {
                EMKIT_UNROLL for (int w = 0; w < W; ++w)
                    use(w, load(x + k + w * N - o) + load(M + place + w * N), load(lane) + double(k + w * N - o), place + w * N);
                place += stride;
            }
        } else {
            for (Size i = 0; i < K; ++i, place += stride)
                EMKIT_UNROLL for (int w = 0; w < W; ++w) use(w, x[i] + load(M + place + w * N), fill<double>(double(i)), place + w * N);
        }
    }

    // best = l + max over sources of x + M, and the source.
    template <class Index> void advance(const double* x, const double* l, double* best, Index* source) const {
        for (Size k = 0; k < stride; k += 4 * N)
            with_size(int(std::min<Size>(4, (stride - k) / N)), [&](auto width) EMKIT_INLINE {
                constexpr int W = decltype(width)::value;
                Vec<double> highest[W], from[W];
                clear<double>(from);
                EMKIT_UNROLL for (int w = 0; w < W; ++w) highest[w] = fill<double>(IMPOSSIBLE);
                candidates<W>(x, k, [&](int w, Vec<double> candidate, Vec<double> i, Size) EMKIT_INLINE {
                    from[w] = candidate > highest[w] ? i : from[w];
                    highest[w] = larger<double>(candidate, highest[w]);
                });
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

    // to = log sum over sources of exp(x + M)
    void product(const double* x, double* to) const {
        for (Size k = 0; k < stride; k += N) {
            Vec<double> highest = fill<double>(LOWEST), total{};
            candidates<1>(x, k, [&](int, Vec<double> candidate, Vec<double>, Size) EMKIT_INLINE {
                highest = larger<double>(candidate, highest);
            });
            candidates<1>(x, k, [&](int, Vec<double> candidate, Vec<double>, Size) EMKIT_INLINE {
                total += exp<double>(candidate - highest);
            });
            const Vec<double> sums = highest + log<double>(larger<double>(total, fill<double>(1.0)));
            store<double>(to + k, total > 0.0 ? sums : fill<double>(IMPOSSIBLE));
        }
    }

  private:
    Buffer<double> M;
    double lane[N];
};

// What is too much for probabilities.
class Logarithms {
  public:
    Logarithms(const double* startprob, const double* transmat, Size K)
        : K(K), forth({transmat, K, false}), back({transmat, K, true}), stride(forth.stride), start(stride), rows(6 * stride),
          before(rows + stride), after(rows + 3 * stride), joint(rows + 5 * stride), pairs(forth.size) {
        for (Size k = 0; k < K; ++k) start[k] = std::log(startprob[k]);
        std::fill(before, before + stride, IMPOSSIBLE);
        std::fill(after, after + stride, IMPOSSIBLE);
    }

    // Log-likelihood; log_prob becomes weighted probabilities, and what was expected is added to `transitions`.
    double smooth(const Sequence& s, double weight, double* transitions) {
        for (Size t = 0; t < s.T; ++t) {
            advance(s, t);
            std::copy(before, before + K, s.kept + t * K);
        }
        const double loglik = sum_of(before);
        if (loglik == IMPOSSIBLE) {
            std::fill(s.log_prob, s.log_prob + s.T * K, 0.0);
            return loglik;
        }
        std::fill(pairs + 0, pairs + forth.size, 0.0);
        for (Size t = s.T - 1; t >= 0; --t) {
            double *l = s.log_prob + t * K, *forward = s.kept + t * K;
            for (Size k = 0; k < K; ++k) before[k] = forward[k] - loglik;
            if (t == s.T - 1) std::fill(joint, joint + K, 0.0);
            else {
                count_pairs();
                back.product(after, joint);
            }
            for (Size k = 0; k < K; ++k) {
                after[k] = l[k] + joint[k];
                l[k] = weight * std::exp(forward[k] + joint[k] - loglik);
            }
        }
        forth.for_each([&](Size i, Size j, Size place) { transitions[i * K + j] += weight * pairs[place]; });
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
        if (t == 0) std::copy(start + 0, start + K, joint);
        else forth.product(before, joint);
        for (Size k = 0; k < K; ++k) before[k] = joint[k] + s.log_prob[t * K + k];
    }

    double sum_of(const double* x) const {
        const double highest = *std::max_element(x, x + K);
        if (highest == IMPOSSIBLE) return highest;
        double total = 0.0;
        for (Size k = 0; k < K; ++k) total += std::exp(x[k] - highest);
        return highest + std::log(total);
    }

    // Transitions between the rows of `before` and `after`.
    void count_pairs() {
        for (Size k = 0; k < stride; k += N)
            forth.candidates<1>(before, k, [&](int, Vec<double> candidate, Vec<double>, Size place) EMKIT_INLINE {
                store<double>(pairs + place, load(pairs + place) + exp<double>(candidate + load(after + k)));
            });
    }

    const Size K;
    const LogTransitions forth, back;
    const Size stride;
    Buffer<double> start, rows;            // the rows with margins for the diagonals
    double *const before, *const after, *const joint;
    Buffer<double> pairs;
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

// Side by side -----------------------------------------------------------------------------------------------------------
//
// Lane n of every vector belongs to the n-th of some sequences, or of the pieces of a long one; row t of all of them is
// K vectors. What is computed for a lane beyond its last row is finite and discarded.

struct Lane {
    double* log_prob = nullptr;  // (T, K)
    Size T = 0;
    double weight = 0.0;
};

class Together {
  public:
    Lane lanes[N];
    Buffer<double> first;     // (K, N) probabilities of the first state
    Buffer<double> last;      // (K, N) probability of what follows the last row, for each state there
    Buffer<double> products;  // (K, K, N) for each state at the first row: probabilities of the rows and of the last state
    Buffer<double> powers;    // (K, N) of 2, by which to multiply them
    Buffer<double> ends;      // (K, N) proportional to the probabilities of the last state given the rows
    Buffer<double> begins;    // (K, N) proportional to the probability of the first row and what follows, for each state

    Together(const double* transmat, Size K)
        : first(K * N), last(K * N), products(K * K * N), powers(K * N), ends(K * N), begins(K * N), K(K), row(K * N), A(K * K),
          transposed(K * K), l(STEPS * row), b(STEPS * row), x((STEPS + 1) * row), from(STEPS * row), to((STEPS + 1) * row),
          back(row), pairs(K * row), totals(row), lengths(N), weights(N), highest(N), exponents(N), total(N), least(N) {
        for (Size i = 0; i < K; ++i)
            for (Size j = 0; j < K; ++j) A[i * K + j] = transposed[j * K + i] = transmat[i * K + j];
    }

    // Fill products and powers.
    void multiply_out() {
        begin();
        std::fill(powers + 0, powers + row, 0.0);
        for (Size t = 0; t < longest; t += STEPS) {
            const int count = densities(t), starts = t == 0;
            for (Size i = 0; i < K; ++i) {
                double* const product = products + i * row;
                if (starts) {
                    std::fill(product, product + row, 0.0);
                    store<double>(product + i * N, load(b + i * N));
                    store<double>(totals + i * N, load(b + i * N));
                }
                std::copy(product, product + row, x + 0);
                run(t + starts, count - starts, b + starts * row, x + row, totals + i * N, powers + i * N);
                std::copy(x + (count - starts) * row, x + (count - starts + 1) * row, product);
            }
        }
    }

    // The log-densities become weighted probabilities; `kept`, memory for N * K times the longest, holds them then.
    void smooth(double* kept) {
        begin();
        std::fill(highest + 0, highest + N, 0.0);
        std::fill(exponents + 0, exponents + N, 0.0);
        for (Size t = 0; t < longest; t += STEPS) {
            const int count = densities(t, highest), starts = t == 0;
            double* const now = kept + t * row;
            if (starts) {
                Vec<double> sums{};
                for (Size k = 0; k < row; k += N) {
                    const Vec<double> joint = load(first + k) * load(b + k);
                    store<double>(now + k, joint);
                    sums += joint;
                }
                store<double>(total, sums);
            }
            run(t + starts, count - starts, b + starts * row, now + starts * row, total, exponents);
        }
        std::copy(kept + (longest - 1) * row, kept + longest * row, ends + 0);

        std::fill(least + 0, least + N, 1.0);
        std::fill(back + 0, back + row, 0.0);
        std::fill(pairs + 0, pairs + K * row, 0.0);
        Vec<double> after{};
        for (Size t = (longest - 1) / STEPS * STEPS; t >= 0; t -= STEPS) {
            const int count = densities(t);
            meet(t, count, kept + t * row, after);
            hand_back(t, count);
            for (Size i = 0; i < K; i += 4)
                for (Size j = 0; j < K; j += 4)
                    with_size(int(std::min<Size>(4, K - i)), [&](auto height) EMKIT_INLINE {
                        with_size(int(std::min<Size>(4, K - j)), [&](auto width) EMKIT_INLINE {
                            update<decltype(height)::value, decltype(width)::value>(i, j, count);
                        });
                    });
            std::copy(to + 0, to + row, to + STEPS * row);
        }
        std::copy(to + 0, to + row, begins + 0);
    }

    bool good(int n) const { return least[n] >= LEAST; }
    double loglik(int n) const { return highest[n] + LOG_2 * exponents[n] + std::log(total[n]); }

    // Of one lane, after `smooth`.
    void collect(int n, double* transitions) const {
        for (Size k = 0; k < K * K; ++k) transitions[k] += A[k] * pairs[k * N + n];
    }
    void restore(int n, const double* kept) const {
        for (Size t = 0; t < lanes[n].T; ++t)
            for (Size k = 0; k < K; ++k) lanes[n].log_prob[t * K + k] = kept[t * row + k * N + n];
    }

  private:
    static constexpr int STEPS = 16;

    void begin() {
        longest = 0;
        for (int n = 0; n < N; ++n) {
            lengths[n] = double(lanes[n].T);
            weights[n] = lanes[n].weight;
            longest = std::max(longest, lanes[n].T);
        }
    }

    // l and b = exp(l - max l) of the next rows, which are counted; their maxima are added to `highest`.
    int densities(Size t, double* highest = nullptr) {
        const int count = int(std::min<Size>(STEPS, longest - t));
        for (int n = 0; n < N; ++n) {
            const int own = int(std::clamp<Size>(lanes[n].T - t, 0, count));
            const double* row_of_lane = lanes[n].log_prob + t * K;
            double* to = l + n;
            for (Size i = 0; i < own * K; ++i, to += N) *to = row_of_lane[i];
            for (Size i = own * K; i < count * K; ++i, to += N) *to = 0.0;
        }
        for (int r = 0; r < count; ++r) {
            const double* own = l + r * row;
            Vec<double> m = fill<double>(LOWEST);
            for (Size k = 0; k < row; k += N) m = larger<double>(load(own + k), m);
            for (Size k = 0; k < row; k += N) store<double>(b + r * row + k, exp<double>(load(own + k) - m));
            if (highest) store<double>(highest, load(highest) + m);
        }
        return count;
    }

    void hand_back(Size t, int count) const {
        for (int n = 0; n < N; ++n) {
            const int own = int(std::clamp<Size>(lanes[n].T - t, 0, count));
            double* row_of_lane = lanes[n].log_prob + t * K;
            const double* from = l + n;
            for (Size i = 0; i < own * K; ++i, from += N) row_of_lane[i] = *from;
        }
    }

    // to[w] = sum_i x[i] matrix[i][k + w]
    template <int W> EMKIT_INLINE void multiply(const double* matrix, const double* x, Size k, Vec<double> (&to)[W]) const {
        clear<double>(to);
        const double* m = matrix + k;
        for (Size i = 0; i < K; ++i, m += K) {
            const Vec<double> v = load(x + i * N);
            EMKIT_UNROLL for (int w = 0; w < W; ++w) to[w] += v * m[w];
        }
    }

    // The recursion from row t; now[-row] is the row before.
    void run(Size t, int count, const double* b, double* now, double* total, double* exponents) const {
        Vec<double> sums = load(total), powers = load(exponents);
        const Vec<double> ends = load(lengths + 0);
        for (int r = 0; r < count; ++r, b += row, now += row) {
            const auto running = fill<double>(double(t + r)) < ends;
            Vec<double> advanced = powers, next{};
            const Vec<double> scale = inverse_power<double>(sums, advanced);
            powers = running ? advanced : powers;
            for (Size k = 0; k < K; k += 4)
                with_size(int(std::min<Size>(4, K - k)), [&](auto width) EMKIT_INLINE {
                    constexpr int W = decltype(width)::value;
                    Vec<double> p[W];
                    multiply<W>(A, now - row, k, p);
                    EMKIT_UNROLL for (int w = 0; w < W; ++w) {
                        const Size at = (k + w) * N;
                        const Vec<double> joint = running ? p[w] * (load(b + at) * scale) : load(now - row + at);
                        store<double>(now + at, joint);
                        next += joint;
                    }
                });
            sums = next;
        }
        store<double>(total, sums);
        store<double>(exponents, powers);
    }

    // From the last of these rows to the first; l becomes probabilities, and `kept` log-densities.
    void meet(Size t, int count, double* kept, Vec<double>& after) {
        const Vec<double> ends = load(lengths + 0), weight = load(weights + 0);
        Vec<double> lowest = load(least + 0);
        for (int r = count - 1; r >= 0; --r) {
            double *forward = kept + r * row, *own = l + r * row, *source = from + r * row, *target = to + r * row;
            const double* density = b + r * row;
            const auto running = fill<double>(double(t + r)) < ends, ongoing = fill<double>(double(t + r + 1)) < ends;
            const Vec<double> zero{};
            Vec<double> s{}, next{}, ignored{};
            for (Size k = 0; k < row; k += N) {
                const Vec<double> backward = ongoing ? load(back + k) : load(last + k);
                store<double>(back + k, backward);
                s += load(forward + k) * backward;
            }
            const Vec<double> scale = ongoing ? inverse_power<double>(after, ignored) : fill<double>(1.0);
            const Vec<double> seen = running ? s : lowest;
            lowest = seen < lowest ? seen : lowest;
            const Vec<double> share = weight / larger<double>(s, fill<double>(LEAST));
            const Vec<double> here = running ? share : zero, onward = ongoing ? share : zero;
            for (Size k = 0; k < row; k += N) {
                const Vec<double> f = load(forward + k), backward = load(back + k);
                store<double>(forward + k, load(own + k));
                store<double>(own + k, f * backward * here);
                store<double>(source + k, f * onward);
                const Vec<double> joint = backward * (load(density + k) * scale);
                store<double>(target + k, joint);
                next += joint;
            }
            after = next;
            for (Size k = 0; k < K; k += 4)
                with_size(int(std::min<Size>(4, K - k)), [&](auto width) EMKIT_INLINE {
                    constexpr int W = decltype(width)::value;
                    Vec<double> p[W];
                    multiply<W>(transposed, target, k, p);
                    EMKIT_UNROLL for (int w = 0; w < W; ++w) store<double>(back + (k + w) * N, p[w]);
                });
        }
        store<double>(least, lowest);
    }

    template <int P, int Q> EMKIT_KEEP void update(Size i, Size j, int count) {
        Vec<double> tile[P][Q];
        clear<double>(tile);
        const double *x = from + i * N, *y = to + row + j * N;
        for (int r = 0; r < count; ++r, x += row, y += row)
            EMKIT_UNROLL for (int p = 0; p < P; ++p)
                EMKIT_UNROLL for (int q = 0; q < Q; ++q) tile[p][q] += load(x + p * N) * load(y + q * N);
        EMKIT_UNROLL for (int p = 0; p < P; ++p)
            EMKIT_UNROLL for (int q = 0; q < Q; ++q) {
                double* pair = pairs + ((i + p) * K + j + q) * N;
                store<double>(pair, load(pair) + tile[p][q]);
            }
    }

    const Size K, row;
    Buffer<double> A, transposed, l, b, x, from, to, back, pairs, totals, lengths, weights, highest, exponents, total, least;
    Size longest = 0;
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

// All sequences of a chain.
template <class Matrix> class Smoother {
  public:
    Smoother(const Chain& chain, const double* weights, double* logliks, int n_threads, double* starts, double* transitions)
        : chain(chain), K(chain.K), weights(weights), logliks(logliks), n_threads(n_threads), starts(starts),
          transitions(transitions), ones(K, 1.0) {}

    void smooth() {
        std::vector<Job> jobs(chain.count);
        chain.for_each([&](Size s, Size begin, Size T) { jobs[s] = {s, {chain.log_prob + begin * K, T, weight(s)}}; });
        std::stable_sort(jobs.begin(), jobs.end(), [](const Job& a, const Job& b) { return a.lane.T > b.lane.T; });
        for (auto job = jobs.begin(); job < jobs.end();) {
            const auto end = job + std::min<Size>(N, jobs.end() - job);
            Size rows = 0;
            for (auto other = job; other < end; ++other) rows += other->lane.T;
            const bool few = K <= MOST_CUT && job->lane.T <= SHORT;
            if (K <= MOST_TOGETHER && (few || 2 * rows >= N * job->lane.T)) {
                together(&*job, int(end - job));
                job = end;
            } else {
                if (K <= MOST_CUT) cut(*job);
                else alone(*job);
                ++job;
            }
        }
    }

  private:
    struct Job {
        Size s;
        Lane lane;
    };

    double weight(Size s) const { return weights ? weights[s] : 1.0; }

    bool at_once(Size T) const { return n_threads > 1 && worth_a_thread(T, K); }

    double* keep(Size size) {
        if (size > kept_size) {
            kept.reset();
            kept.reset(new double[size]);
            kept_size = size;
        }
        return kept.get();
    }

    void finish(const Job& job, double loglik) {
        logliks[job.s] = loglik;
        for (Size k = 0; k < K; ++k) starts[k] += job.lane.log_prob[k];
    }

    void rescue(const Job& job) {
        if (!logarithms) logarithms.emplace(chain.startprob, chain.transmat, K);
        finish(job, logarithms->smooth({job.lane.log_prob, keep(job.lane.T * K), job.lane.T}, job.lane.weight, transitions));
    }

    // From both ends.
    void alone(const Job& job) {
        if (!left) {
            left.emplace(Transitions{chain.transmat, K, false}, chain.startprob);
            right.emplace(Transitions{chain.transmat, K, true}, ones.data());
        }
        const Size T = job.lane.T, middle = T / 2;
        const Sequence sequence{job.lane.log_prob, keep(T * K), T};
        const double weight = job.lane.weight;
        both(at_once(T), [&] { left->store(sequence, middle); }, [&] { right->store(sequence, T - middle); });
        both(at_once(T), [&] { left->meet(sequence, T - middle, weight); }, [&] { right->meet(sequence, middle, weight); });
        if (left->good && right->good) {
            left->collect(transitions);
            right->collect(transitions);
            finish(job, left->highest + LOG_2 * double(left->exponents) + std::log(left->total));
        } else {
            std::copy(sequence.kept, sequence.kept + T * K, sequence.log_prob);
            rescue(job);
        }
    }

    Together& group(int g) {
        if (!groups[g]) groups[g].emplace(chain.transmat, K);
        return *groups[g];
    }

    void together(const Job* jobs, int count) {
        Together& lanes = group(0);
        for (int n = 0; n < N; ++n) {
            lanes.lanes[n] = n < count ? jobs[n].lane : Lane{};
            for (Size k = 0; k < K; ++k) {
                lanes.first[k * N + n] = chain.startprob[k];
                lanes.last[k * N + n] = 1.0;
            }
        }
        double* const kept = keep(jobs->lane.T * K * N);
        lanes.smooth(kept);
        bool good = true;
        for (int n = 0; n < count; ++n) {
            good &= lanes.good(n);
            if (lanes.good(n)) {
                lanes.collect(n, transitions);
                finish(jobs[n], lanes.loglik(n));
            } else {
                lanes.restore(n, kept);
            }
        }
        for (int n = 0; n < count && !good; ++n)  // when nothing kept is needed any more
            if (!lanes.good(n)) rescue(jobs[n]);
    }

    // In pieces: what precedes and what follows each is known from products of matrices.
    void cut(const Job& job) {
        const Size T = job.lane.T, pieces = 2 * N, size = (T + pieces - 1) / pieces * K * N;
        Together &early = group(0), &late = group(1);
        for (Size p = 0; p < pieces; ++p) {
            const Size begin = p * T / pieces, end = (p + 1) * T / pieces;
            half(p).lanes[p % N] = {job.lane.log_prob + begin * K, end - begin, job.lane.weight};
        }
        double* const kept = keep(2 * size);
        both(at_once(T), [&] { early.multiply_out(); }, [&] { late.multiply_out(); });
        connect(pieces);
        both(at_once(T), [&] { early.smooth(kept); }, [&] { late.smooth(kept + size); });

        bool good = true;
        double loglik = 0.0;
        for (Size p = 0; p < pieces; ++p) {
            good &= half(p).good(p % N);
            loglik += half(p).loglik(p % N);
        }
        if (!good) {
            for (Size p = 0; p < pieces; ++p) half(p).restore(p % N, kept + p / N * size);
            return rescue(job);
        }
        for (Size p = 0; p < pieces; ++p) {
            half(p).collect(p % N, transitions);
            if (p > 0) count_between(p, job.lane.weight);
        }
        finish(job, loglik);
    }

    Together& half(Size piece) { return *groups[piece / N]; }

    // Where the pieces begin, from the first to the last; what follows them, from the last to the first.
    void connect(Size pieces) {
        std::vector<double> before(chain.startprob, chain.startprob + K), after(ones), next(K);
        for (Size p = 0; p < pieces; ++p) {
            Together& g = half(p);
            const int n = p % N;
            for (Size k = 0; k < K; ++k) g.first[k * N + n] = before[k];
            std::fill(next.begin(), next.end(), 0.0);
            for_each_product(g, n, [&](Size i, Size k, double product) { next[k] += before[i] * product; });
            normalise(next);
            std::fill(before.begin(), before.end(), 0.0);
            for (Size i = 0; i < K; ++i)
                for (Size j = 0; j < K; ++j) before[j] += next[i] * chain.transmat[i * K + j];
        }
        for (Size p = pieces - 1; p >= 0; --p) {
            Together& g = half(p);
            const int n = p % N;
            for (Size k = 0; k < K; ++k) g.last[k * N + n] = after[k];
            std::fill(next.begin(), next.end(), 0.0);
            for_each_product(g, n, [&](Size i, Size k, double product) { next[i] += product * after[k]; });
            normalise(next);
            std::fill(after.begin(), after.end(), 0.0);
            for (Size i = 0; i < K; ++i)
                for (Size j = 0; j < K; ++j) after[i] += chain.transmat[i * K + j] * next[j];
        }
    }

    // Calls use(first state, last state, product), all relative to the largest power.
    template <class Use> void for_each_product(const Together& g, int n, Use use) const {
        double highest = g.powers[n];
        for (Size i = 1; i < K; ++i) highest = std::max(highest, g.powers[i * N + n]);
        for (Size i = 0; i < K; ++i) {
            const double power = std::exp2(g.powers[i * N + n] - highest);
            for (Size k = 0; k < K; ++k) use(i, k, power * g.products[(i * K + k) * N + n]);
        }
    }

    static void normalise(std::vector<double>& x) {
        double total = 0.0;
        for (double value : x) total += value;
        for (double& value : x) value /= std::max(total, LEAST);
    }

    // The transitions from the last row of a piece to the first of the next.
    void count_between(Size p, double weight) {
        std::vector<double> joint(K * K);
        double total = 0.0;
        for (Size i = 0; i < K; ++i)
            for (Size j = 0; j < K; ++j)
                total += joint[i * K + j] =
                    half(p - 1).ends[i * N + (p - 1) % N] * chain.transmat[i * K + j] * half(p).begins[j * N + p % N];
        for (Size i = 0; i < K * K; ++i) transitions[i] += joint[i] / total * weight;
    }

    const Chain& chain;
    const Size K;
    const double* const weights;
    double* const logliks;
    const int n_threads;
    double *const starts, *const transitions;
    const std::vector<double> ones;
    std::unique_ptr<double[]> kept;
    Size kept_size = 0;
    std::optional<Direction<Matrix>> left, right;
    std::optional<Together> groups[2];
    std::optional<Logarithms> logarithms;
};

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

// Scores of the best paths from one end of a sequence, and for every state the one before it on that path.
template <class Index> class Advance {
  public:
    Advance(const Transitions& A, const double* first) : K(A.K), M(A), log_first(K), memory(4 * M.stride), x(memory + M.stride) {
        for (Size k = 0; k < K; ++k) log_first[k] = std::log(first[k]);
    }

    // `l` and `sources` are those of the first row; `step` leads to the next.
    void run(const double* l, Index* sources, Size step, Size count) {
        for (Size k = 0; k < K && count > 0; ++k) x[k] = log_first[k] + l[k];
        double* next = x == memory + M.stride ? x + M.stride : x - M.stride;
        for (Size t = 1; t < count; ++t, std::swap(x, next)) M.advance(x, l + t * step, next, sources + t * step);
    }

    double score(Size k) const { return x[k]; }

  private:
    const Size K;
    const LogTransitions M;
    Buffer<double> log_first, memory;  // two rows, with margins for the diagonals
    double* x;
};

// A long sequence from both ends: the best path goes through the best pair of states in the middle.
template <class Index> void decode(const Chain& chain, Size* path, double* scores, int n_threads) {
    const Size K = chain.K;
    const std::vector<double> ones(K, 1.0);
    Advance<Index> left({chain.transmat, K, false}, chain.startprob), right({chain.transmat, K, true}, ones.data());
    const std::unique_ptr<Index[]> sources(new Index[chain.longest() * K]);
    chain.for_each([&](Size s, Size begin, Size T) {
        const Size middle = T > SHORT ? T / 2 : T;
        const double *l = chain.log_prob + begin * K, *end = l + (T - 1) * K;
        Index *const came_from = sources.get(), *const goes_to = came_from + (T - 1) * K;
        const bool at_once = n_threads > 1 && middle < T && worth_a_thread(T, K);
        both(at_once, [&] { left.run(l, came_from, K, middle); }, [&] { right.run(end, goes_to, -K, T - middle); });
        Size state = 0, next = 0;
        double best = IMPOSSIBLE;
        for (Size i = 0; i < K; ++i) {
            if (middle == T) {
                if (left.score(i) > best) best = left.score(state = i);
                continue;
            }
            for (Size j = 0; j < K; ++j) {
                const double score = left.score(i) + std::log(chain.transmat[i * K + j]) + right.score(j);
                if (score > best) best = score, state = i, next = j;
            }
        }
        scores[s] = best;
        for (Size t = middle - 1; t >= 0; --t) {
            path[begin + t] = state;
            if (t > 0) state = sources[t * K + state];
        }
        for (Size t = middle; t < T; ++t) {
            path[begin + t] = next;
            if (t < T - 1) next = sources[t * K + next];
        }
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
            Smoother<typename decltype(type)::type>(chain, weight ? weight->data() : nullptr, logliks.data(), n_threads, starts.data(),
                                                    transitions.data())
                .smooth();
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
             const InOut<Size, 1>& path, const InOut<double, 1>& scores, int n_threads) {
    const Chain chain = check(log_prob.data(), log_prob.shape(0), log_prob.shape(1), lengths, startprob, transmat);
    check_shape("path", path, {log_prob.shape(0)});
    check_shape("scores", scores, {lengths.shape(0)});
    nb::gil_scoped_release released;
    if (chain.K <= 256) decode<std::uint8_t>(chain, path.data(), scores.data(), n_threads);
    else decode<std::uint32_t>(chain, path.data(), scores.data(), n_threads);
}

}  // namespace

void define_chain(nb::module_& module) {
    const auto strict = [](const char* argument) { return nb::arg(argument).noconvert(); };  // never a silent copy
    module.def("forward_backward", &forward_backward, strict("log_prob"), strict("lengths"), strict("weight").none(), strict("startprob"),
               strict("transmat"), strict("logliks"), nb::arg("n_threads"));
    module.def("filter_chain", &filter_chain, strict("log_prob"), strict("lengths"), strict("startprob"), strict("transmat"),
               strict("increments"));
    module.def("viterbi", &viterbi, strict("log_prob"), strict("lengths"), strict("startprob"), strict("transmat"), strict("path"),
               strict("scores"), nb::arg("n_threads") = 1);
}

}  // namespace emkit
