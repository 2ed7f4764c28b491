// The most probable path.
//
// A long sequence is gone through from both ends: the best path leads through the best pair of states in the middle.
//
// Scores are relative to the best one before a block of rows. Where that falls FAR, as an outlier makes it, the digits of
// the rows before would be lost: such a block is done again, each row relative to the highest density within reach.

#pragma once

#include "chain_law.hpp"
#include "chain_logarithms.hpp"

namespace emkit {
namespace {

constexpr Size LONG = 1024;  // rows of a sequence worth going through from both ends
constexpr double FAR = 1e6;  // nats by which a score may fall within a block: its last digits are worth 1e-10

// The states before all those of a row, if they are FEW: two bits for each, all the lower ones first.
enum class Packed : std::uint8_t {};

inline Packed pack(unsigned low, unsigned high) { return Packed(low | high << 4); }
inline Size source(const Packed* row, Size state) { return (unsigned(*row) >> state & 1) | (unsigned(*row) >> (state + 3) & 2); }
template <class Index> Size source(const Index* row, Size state) { return row[state]; }

// Scores of the best paths from one end of a sequence, and for every state the one before it on that path.
template <class Index> class Advance {
    static constexpr bool packed = std::is_same_v<Index, Packed>;
    const LogTransitions M;
    const Size K, stride;

  public:
    const Size width;  // of the sources of a row

    // `first` are the probabilities before anything is seen: startprob from the left, ones from the right.
    Advance(const Transitions& A, const double* first, Law& law)
        : M(A), K(A.K), stride(M.stride), width(packed ? 1 : stride), left(!A.transposed), law(law), log_first(stride), most(stride),
          least(stride), states(stride * STRIDE), l(ROWS * stride), zeros(stride), entry(stride), memory(4 * stride), x(memory + stride) {
        std::fill(log_first + 0, log_first + stride, IMPOSSIBLE);
        for (Size k = 0; k < K; ++k) log_first[k] = std::log(first[k]);
        std::fill(most + 0, most + stride, IMPOSSIBLE);
        std::fill(least + 0, least + stride, IMPOSSIBLE);
        for (Size i = 0; i < K; ++i) {
            least[i] = 0.0;
            for (Size j = 0; j < K; ++j) {
                const double value = std::log(A(i, j));
                least[i] = std::min(least[i], value);
                if (j != i) most[i] = std::max(most[i], value);
            }
        }
    }

    // `sources` are those of the first row in the order of time.
    void run(Size begin, Size T, Index* sources) {
        const Size step = left ? stride : -stride, onward = left ? width : -width;
        shift = 0.0;
        for (Size seen = 0; seen < T; seen += ROWS) {
            const int count = int(std::min<Size>(ROWS, T - seen));
            const Size row = left ? seen : T - seen - count;
            law.log_densities(begin + row, count, {0, K}, states);
            transpose(states, STRIDE, stride, round_up(count, N), l, stride);
            const Size starts = seen == 0, first = left ? 0 : count - 1;
            const double* density = l + first * stride;
            Index* source = sources + (row + first) * width;
            if (starts) std::copy(log_first + 0, log_first + stride, x);
            std::copy(x, x + stride, entry + 0);
            if (starts)
                for (Size k = 0; k < K; ++k) x[k] += density[k];
            density += starts * step, source += starts * onward;
            if constexpr (packed)
                advance_few(density, source, step, count - int(starts));
            else
                for (Size r = starts; r < count; ++r, density += step, source += onward) advance(density, source);
            const double best = highest();
            if (best > IMPOSSIBLE && best < -FAR) {
                std::copy(entry + 0, entry + stride, x);
                advance_far(l + first * stride, sources + (row + first) * width, step, onward, count, starts);
            } else {
                recentre();
            }
        }
    }

    double score(Size k) const { return x[k]; }

    double shift;  // what the scores lack

  private:
    // The rows after x, all states in one vector.
    void advance_few(const double* l, Packed* source, Size step, int count) {
        with_size(int(K), [&](auto size) EMKIT_INLINE { advance_few<decltype(size)::value>(l, source, step, count); });
    }
    template <int COUNT> void advance_few(const double* l, Packed* source, Size step, int count) {
        Vec<double> now = load(x), row[COUNT];
        for (int i = 0; i < COUNT; ++i) row[i] = load(M.row(i));
        const Size onward = left ? 1 : -1;
        for (int r = 0; r < count; ++r, l += step, source += onward) {
            const Vec<double> density = load(l);
            Vec<double> best = spread<0>(now) + (row[0] + density);  // the sum in brackets waits for no other row
            unsigned low = 0, high = 0;
            choose<1, COUNT>(now, row, density, best, low, high);
            now = best;
            *source = pack(low, high);
        }
        store<double>(x, now);
    }
    template <int I, int COUNT>
    EMKIT_INLINE void choose(Vec<double> now, const Vec<double> (&row)[COUNT], Vec<double> density, Vec<double>& best, unsigned& low,
                             unsigned& high) const {
        if constexpr (I < COUNT) {
            const Vec<double> candidate = spread<I>(now) + (row[I] + density);
            const unsigned better = below(best, candidate);
            low = I & 1 ? low | better : low & ~better;
            high |= I & 2 ? better : 0;
            best = larger<double>(candidate, best);
            choose<I + 1, COUNT>(now, row, density, best, low, high);
        }
    }

    // The same for all rows of a block, the first of them the first of all if it `starts`; slower.
    void advance_far(const double* l, Index* source, Size step, Size onward, int count, bool starts) {
        for (int r = 0; r < count; ++r, l += step, source += onward) {
            if (r > 0 || !starts) {
                if constexpr (packed) advance_few(zeros, source, 0, 1);
                else advance(zeros, source);
            }
            double within_reach = LOWEST;
            for (Size k = 0; k < K; ++k)
                if (x[k] > IMPOSSIBLE) within_reach = std::max(within_reach, l[k]);
            for (Size k = 0; k < K; ++k) x[k] += l[k] - within_reach;
            shift += within_reach;
            recentre();
        }
    }

    double highest() const { return *std::max_element(x, x + K); }

    // The best score becomes 0 if it is possible.
    void recentre() {
        const double best = highest();
        if (best == IMPOSSIBLE) return;
        for (Size k = 0; k < K; ++k) x[k] -= best;
        shift += best;
    }

    void advance(const double* l, Index* source) {
        double* const next = x == memory + stride ? x + stride : x - stride;
        int active[LIMIT];
        const int count = M.banded ? -1 : find_active(active);
        for (Size k = 0; k < stride; k += 4 * N)
            with_size(int(std::min<Size>(4, (stride - k) / N)), [&](auto width) EMKIT_INLINE {
                constexpr int W = decltype(width)::value;
                Vec<double> highest[W];
                Bits from[W];
                if (count < 0) {
                    EMKIT_UNROLL for (int w = 0; w < W; ++w) {
                        highest[w] = fill<double>(IMPOSSIBLE);
                        from[w] = Bits{};
                    }
                    M.template candidates<W>(x, k, [&](int w, Vec<double> candidate, Bits i, Size) EMKIT_INLINE {
                        from[w] = candidate > highest[w] ? i : from[w];
                        highest[w] = larger<double>(candidate, highest[w]);
                    });
                } else {
                    EMKIT_UNROLL for (int w = 0; w < W; ++w) {
                        highest[w] = load(x + k + w * N) + load(M.diagonal() + k + w * N);
                        from[w] = M.targets(k + w * N);
                    }
                    for (int n = 0; n < count; ++n) {
                        const Bits i = Bits{} + std::uint64_t(active[n]);
                        const double* row = M.row(active[n]) + k;
                        EMKIT_UNROLL for (int w = 0; w < W; ++w) {
                            const Vec<double> candidate = x[active[n]] + load(row + w * N);
                            const auto before = (candidate == highest[w]) & (i < from[w]);
                            from[w] = (candidate > highest[w]) | before ? i : from[w];
                            highest[w] = larger<double>(candidate, highest[w]);
                        }
                    }
                }
                EMKIT_UNROLL for (int w = 0; w < W; ++w) {
                    store<double>(next + k + w * N, highest[w] + load(l + k + w * N));
                    narrow(from[w], source + k + w * N);
                }
            });
        x = next;
    }

    // States that may come before another than themselves: those that with their most probable transition reach as far as
    // some state with its least probable one. Negative if there are too many to be worth knowing.
    int find_active(int* active) const {
        Vec<double> bounds = fill<double>(IMPOSSIBLE);
        for (Size k = 0; k < stride; k += N) bounds = larger<double>(load(x + k) + load(least + k), bounds);
        const double bound = largest(bounds);
        if (bound == IMPOSSIBLE) return -1;
        int count = 0;
        for (Size k = 0; k < stride; k += N) {
            unsigned rest = ~below(load(x + k) + load(most + k), bound) & ((1u << N) - 1);
            for (int n = 0; rest >> n; ++n) {
                if (!(rest >> n & 1)) continue;
                if (count == LIMIT) return -1;
                active[count++] = int(k) + n;
            }
        }
        return count;
    }

    static constexpr int LIMIT = 4;
    const bool left;
    Law& law;
    Buffer<double> log_first, most, least, states, l, zeros, entry, memory;  // the last: two rows, with margins for the diagonals
    double* x;
};

template <class Index> void decode(const Chain& chain, Law& one, Law& two, Size* path, double* scores, int n_threads) {
    const Size K = chain.K;
    const std::vector<double> ones(K, 1.0);
    Advance<Index> left({chain.transmat, K, false}, chain.startprob, one), right({chain.transmat, K, true}, ones.data(), two);
    const Size width = left.width;
    const std::unique_ptr<Index[]> sources(new Index[chain.longest() * width]);
    chain.for_each([&](Size s, Size begin, Size T) {
        Size middle = T, last = 0, next = 0;
        double best = IMPOSSIBLE;
        bool at_once = false;
        const auto advance_to = [&](Size row) {
            middle = row;
            at_once = n_threads > 1 && middle < T && worth_a_thread(T, K);
            Index* const after = sources.get() + middle * width;
            both(at_once, [&] { left.run(begin, middle, sources.get()); }, [&] { right.run(begin + middle, T - middle, after); });
            best = IMPOSSIBLE;
            for (Size i = 0; i < K; ++i) {
                if (middle == T) {
                    if (left.score(i) > best) best = left.score(last = i);
                    continue;
                }
                for (Size j = 0; j < K; ++j) {
                    const double score = left.score(i) + std::log(chain.transmat[i * K + j]) + right.score(j);
                    if (score > best) best = score, last = i, next = j;
                }
            }
        };
        advance_to(T > LONG ? T / 2 : T);
        // From the right, an outlier favoured states that cannot be reached from the left.
        if (middle < T && best < -FAR) advance_to(T);
        scores[s] = best + left.shift + (middle < T ? right.shift : 0.0);
        both(at_once,
             [&, state = last]() mutable {
                 for (Size t = middle - 1; t > 0; --t) {
                     path[begin + t] = state;
                     state = source(sources.get() + t * width, state);
                 }
                 path[begin] = state;
             },
             [&, state = next]() mutable {
                 for (Size t = middle; t < T; ++t) {
                     path[begin + t] = state;
                     if (t < T - 1) state = source(sources.get() + t * width, state);
                 }
             });
    });
}

}  // namespace
}  // namespace emkit
