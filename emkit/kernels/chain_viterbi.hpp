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
    const Size K, stride, apart;  // the last: from row to row of densities; those of few states are followed by the next row

  public:
    const Size width;  // of the sources of a row

    // `first` are the probabilities before anything is seen: startprob from the left, ones from the right.
    Advance(const Transitions& A, const double* first, Law& law)
        : M(A), K(A.K), stride(M.stride), apart(packed ? FEW : stride), width(packed ? 1 : stride), left(!A.transposed), step(left ? apart : -apart),
          onward(left ? width : -width), law(law), log_first(stride), most(stride), least(stride), states(stride * STRIDE), l(ROWS * apart + N), zeros(stride), entry(stride), memory(4 * stride), x(memory + stride) {
        law.make_room(1);
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

    // Stand before rows of a sequence, whose sources begin with those of the first in the order of time.
    void start(Size first_row, Size n_rows, Index* first_sources) {
        begin = first_row, T = n_rows, sources = first_sources, seen = 0, shift = 0.0;
    }

    // In one thread, ways through few states take turns: a row waits for the one before it, but not for the other way.
    static void run_both(bool at_once, Advance& left, Advance& right) {
        if constexpr (packed)  // both fetch, also where one has come to its end
            while (!at_once && (int(left.fetch()) | int(right.fetch()))) {
                with_size(int(left.K), [&](auto size) EMKIT_INLINE {
                    Few<decltype(size)::value> one(left), two(right);
                    const int common = std::min(left.todo, right.todo);
                    for (int r = 0; r < common; ++r) one.advance(), two.advance();
                    one.advance(left.todo - common), two.advance(right.todo - common);
                });
                left.settle(), right.settle();
            }
        both(at_once, [&] { left.run(); }, [&] { right.run(); });
    }

    double score(Size k) const { return x[k]; }

    double shift;  // what the scores lack

  private:
    void run() {
        while (fetch()) {
            advance_all();
            settle();
        }
    }

    void advance_all() {
        if constexpr (packed) with_size(int(K), [&](auto size) EMKIT_INLINE { Few<decltype(size)::value>(*this).advance(todo); });
        else
            for (Size r = 0; r < todo; ++r) advance(density + r * step, source + r * onward);
    }

    // The rows after x, all states in one vector.
    template <int COUNT> class Few {
        Vec<double> now, row[COUNT];
        const double* density;
        Packed* source;
        const Size step, onward;
        double* const x;

      public:
        explicit Few(const Advance& a) : now(load(a.x)), density(a.density), source(a.source), step(a.step), onward(a.onward), x(a.x) {
            for (int i = 0; i < COUNT; ++i) row[i] = load(a.M.row(i));
        }
        ~Few() { store<double>(x, now); }

        EMKIT_INLINE void advance() {
            const Vec<double> l = load(density);
            Vec<double> best = spread<0>(now) + (row[0] + l);  // the sum in brackets waits for no other row
            unsigned low = 0, high = 0;
            choose<1>(l, best, low, high);
            now = best;
            *source = pack(low, high);
            density += step, source += onward;
        }
        EMKIT_INLINE void advance(int count) {
            for (int r = 0; r < count; ++r) advance();
        }

      private:
        template <int I> EMKIT_INLINE void choose(Vec<double> l, Vec<double>& best, unsigned& low, unsigned& high) const {
            if constexpr (I < COUNT) {
                const Vec<double> candidate = spread<I>(now) + (row[I] + l);
                const unsigned better = below(best, candidate);
                low = I & 1 ? low | better : low & ~better;
                high |= I & 2 ? better : 0;
                best = larger<double>(candidate, best);
                choose<I + 1>(l, best, low, high);
            }
        }
    };

    // The transpose of four states on vectors of eight rows: squares of four, then the rows of two vectors in a row.
    static void transpose_few(const double* states, Size rows, double* l) {
        constexpr auto lanes = std::make_index_sequence<N>{};
        for (Size i = 0; i < rows; i += N, l += 4 * N) {
            Vec<double> few[4];
            EMKIT_UNROLL for (int k = 0; k < 4; ++k) few[k] = load(states + k * STRIDE + i);
            trade<double, 1>(few[0], few[1], lanes), trade<double, 1>(few[2], few[3], lanes);
            trade<double, 2>(few[0], few[2], lanes), trade<double, 2>(few[1], few[3], lanes);
            trade<double, 4>(few[0], few[1], lanes), trade<double, 4>(few[2], few[3], lanes);
            store<double>(l, few[0]), store<double>(l + N, few[2]), store<double>(l + 2 * N, few[1]), store<double>(l + 3 * N, few[3]);
        }
    }

    // The next block of rows, of which some are still to do: the very first has no row before it.
    bool fetch() {
        count = todo = int(std::min<Size>(ROWS, T - seen));
        if (count == 0) return false;
        const Size row = left ? seen : T - seen - count, first = left ? 0 : count - 1;
        law.log_densities({begin + row, count}, {0, K}, states);
        if constexpr (packed && N == 8) transpose_few(states, round_up(count, N), l);
        else transpose(states, STRIDE, apart, round_up(count, N), l, apart);
        density = l + first * apart;
        source = sources + (row + first) * width;
        if (seen == 0) std::copy(log_first + 0, log_first + stride, x);
        std::copy(x, x + stride, entry + 0);
        if (seen == 0) {
            for (Size k = 0; k < K; ++k) x[k] += density[k];
            density += step, source += onward, --todo;
        }
        seen += count;
        return true;
    }

    // The best score becomes 0, unless it fell far.
    void settle() {
        const double best = highest();
        if (best > IMPOSSIBLE && best < -FAR) advance_far();
        else recentre();
    }

    // The block once more, slower.
    void advance_far() {
        const bool starts = seen == count;
        const Size row = left ? seen - count : T - seen, first = left ? 0 : count - 1;
        std::copy(entry + 0, entry + stride, x);
        source = sources + (row + first) * width;
        const double* l_row = l + first * apart;
        for (int r = 0; r < count; ++r, l_row += step, source += onward) {
            if (r > 0 || !starts) {
                density = zeros + 0, todo = 1;
                advance_all();
            }
            double within_reach = LOWEST;
            for (Size k = 0; k < K; ++k)
                if (x[k] > IMPOSSIBLE) within_reach = std::max(within_reach, l_row[k]);
            for (Size k = 0; k < K; ++k) x[k] += l_row[k] - within_reach;
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
    const Size step, onward;  // from a row to the next: densities, sources
    Law& law;
    Buffer<double> log_first, most, least, states, l, zeros, entry, memory;  // the last: two rows, with margins for the diagonals
    double* x;
    Size begin = 0, T = 0, seen = 0;  // the rows, and how many of them blocks have fetched
    Index* sources = nullptr;
    int count = 0, todo = 0;  // rows of the block, and of those the ones to advance to
    const double* density = nullptr;  // of the next of them
    Index* source = nullptr;
};

// The best path from one of its states on, away from the middle.
template <class Index> struct Trace {
    Size* path;
    const Index* sources;
    Size state, rows;
    const Size step, width;

    EMKIT_INLINE void advance() {
        *path = state;
        state = source(sources, state);
        path += step, sources += step * width, --rows;
    }
    void run() {
        while (rows > 1) advance();
        if (rows == 1) *path = state;
    }
};

template <class Index> void trace_both(bool at_once, Trace<Index> left, Trace<Index> right) {
    if (!at_once)
        while (left.rows > 1 && right.rows > 1) left.advance(), right.advance();
    both(at_once, [&] { left.run(); }, [&] { right.run(); });
}

template <class Index> void decode(const Chain& chain, Law& one, Law& two, Size* path, double* scores, int n_threads) {
    const Size K = chain.K;
    const std::vector<double> ones(K, 1.0);
    Advance<Index> left({chain.transmat, K, false}, chain.startprob, one), right({chain.transmat, K, true}, ones.data(), two);
    const Size width = left.width;
    const std::unique_ptr<Index[]> sources(new Index[chain.longest() * width]);
    const Size faster = std::is_same_v<Index, Packed> ? 2 : 1;  // in turn, few states are gone through before a thread has begun
    chain.for_each([&](Size s, Size begin, Size T) {
        Size middle = T, last = 0, next = 0;
        double best = IMPOSSIBLE;
        bool at_once = false;
        const auto meet_at = [&](Size row) {
            middle = row;
            at_once = n_threads > 1 && middle < T && worth_a_thread(T / faster, K);
            left.start(begin, middle, sources.get());
            right.start(begin + middle, T - middle, sources.get() + middle * width);
            Advance<Index>::run_both(at_once, left, right);
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
        meet_at(T > LONG ? T / 2 : T);
        // From the right, an outlier favoured states that cannot be reached from the left.
        if (middle < T && best < -FAR) meet_at(T);
        scores[s] = best + left.shift + (middle < T ? right.shift : 0.0);
        trace_both<Index>(at_once, {path + begin + middle - 1, sources.get() + (middle - 1) * width, last, middle, -1, width},
                          {path + begin + middle, sources.get() + middle * width, next, T - middle, 1, width});
    });
}

}  // namespace
}  // namespace emkit
