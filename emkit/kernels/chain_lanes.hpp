// Several sequences, or pieces of a long one, side by side.
//
// Lane n of every vector belongs to the n-th of them. A block of the law holds as many rows of each, those at one time
// side by side, so that nothing has to be transposed. What is computed for a lane beyond its last row is finite and
// discarded.

#pragma once

#include "chain_law.hpp"

#include <utility>

namespace emkit {
namespace {

constexpr Size MOST_TOGETHER = 16;  // states of sequences advanced side by side

struct Lane {
    Size begin = 0, T = 0;  // its rows
    double weight = 0.0;
};

class Together {
  public:
    Lane lanes[N];
    double* first;     // (K, N) probabilities of the first state
    double* last;      // (K, N) probability of what follows the last row, for each state there
    double* products;  // (K, K, N) for each state at the first row: probabilities of the rows and of the last state
    double* powers;    // (K, N) of 2, by which to multiply them
    double* ends;      // (K, N) proportional to the probabilities of the last state given the rows
    double* begins;    // (K, N) proportional to the probability of the first row and what follows, for each state
    double* starts;    // (K, N) weighted probabilities of the first state

    // For lanes of at most T rows.
    Together(const double* transmat, Size K, Size T, Law& law)
        : K(K), row(K * N), law(law), selections(std::min(blocks(T), WINDOW)) {
        const std::pair<double**, Size> parts[] = {
            {&first, row}, {&last, row}, {&products, K * row}, {&powers, row}, {&ends, row}, {&begins, row}, {&starts, row},
            {&A, round_up(K * K, N)}, {&transposed, round_up(K * K, N)}, {&b, Size(selections.size()) * K * STRIDE},
            {&x, (std::min(T, ROWS_KEPT) + 1) * row}, {&from, STEPS * row}, {&to, (STEPS + 1) * row}, {&back, row}, {&pairs, K * row}};
        Size size = 0;
        for (const auto& part : parts) size += part.second;
        double* rest = memory.emplace(size);
        for (const auto& part : parts) {
            *part.first = rest;
            rest += part.second;
        }
        for (Size i = 0; i < K; ++i)
            for (Size j = 0; j < K; ++j) A[i * K + j] = transposed[j * K + i] = transmat[i * K + j];
        marks.reserve((blocks(T) - 1) / WINDOW * (row + N));
        law.make_room(int(selections.size()));
    }

    // Fill products and powers, of at most ROWS_KEPT rows.
    void multiply_out() {
        begin();
        for (Size block = 0; block < blocks(longest); ++block) densities(block);
        with_size(int(K), [&](auto size) EMKIT_INLINE { multiply_out_few<decltype(size)::value>(); });
    }

    // Hand the weighted probabilities of the states to the law.
    void smooth() {
        begin();
        const Size n_blocks = blocks(longest);
        marks.resize((n_blocks - 1) / WINDOW * (row + N));
        Vec<double> highest{}, exponents{};
        for (Size block = 0; block < n_blocks; ++block) {
            if (block > 0 && block % WINDOW == 0) {
                double* const mark = marks.data() + (block / WINDOW - 1) * (row + N);
                std::copy(x + ROWS_KEPT * row, x + (ROWS_KEPT + 1) * row, x + 0);
                std::copy(x + 0, x + row, mark);
                std::copy(total, total + N, mark + row);
            }
            highest += densities(block);
            with_states([&](auto few) EMKIT_INLINE { go<decltype(few)::value>(block, exponents); });
        }
        std::copy(seen(longest - 1), seen(longest - 1) + row, ends + 0);
        double relative[N];
        store<double>(relative, highest + LOG_2 * exponents);
        for (int n = 0; n < N; ++n) logliks[n] = relative[n] + std::log(total[n]);

        std::copy(begun, begun + N, least);  // what is lost at any other row is missed at the row before
        std::fill(back + 0, back + row, 0.0);
        std::fill(pairs + 0, pairs + K * row, 0.0);
        for (Size block = n_blocks - 1; block >= 0; --block) {
            if (block < n_blocks - 1 && block % WINDOW == WINDOW - 1) again(block / WINDOW);
            turn(block);
        }
        std::copy(to + 0, to + row, begins + 0);
        for (Size k = 0; k < K; ++k) store<double>(starts + k * N, load(density(0) + k * STRIDE));
    }

    bool good(int n) const { return least[n] >= LEAST; }
    double loglik(int n) const { return logliks[n]; }

    // Of one lane, after `smooth`.
    void collect(int n, double* transitions) const {
        for (Size k = 0; k < K * K; ++k) transitions[k] += A[k] * pairs[k * N + n];
    }

    static constexpr Size ROWS_KEPT = ROWS;  // of a lane; of a longer one, they are computed twice

  private:
    static constexpr Size STEPS = ROWS / N;            // rows of a lane in a block of the law
    static constexpr Size WINDOW = ROWS_KEPT / STEPS;  // blocks kept

    static Size blocks(Size T) { return (T + STEPS - 1) / STEPS; }
    Size steps(Size block) const { return std::min(STEPS, longest - block * STEPS); }
    double* density(Size t) { return b + t / STEPS % WINDOW * K * STRIDE + t % STEPS * N; }  // state k is STRIDE further
    double* seen(Size t) { return x + (t % ROWS_KEPT + 1) * row; }  // probabilities of the states; the row before stands before them

    void begin() {
        longest = 0;
        for (int n = 0; n < N; ++n) {
            firsts[n] = lanes[n].begin, T[n] = lanes[n].T;
            lengths[n] = double(lanes[n].T);
            weights[n] = lanes[n].weight;
            longest = std::max(longest, lanes[n].T);
        }
    }

    const Selection& select(Size block) {
        const Size t = block * STEPS;
        Selection& rows = selections[block % WINDOW];
        rows.place = int(block % WINDOW);
        rows.count = int(steps(block)) * N;
        for (Size r = 0; r < steps(block); ++r)
            for (int n = 0; n < N; ++n) rows.rows[r * N + n] = t + r < T[n] ? firsts[n] + t + r : Selection::NONE;
        return rows;
    }

    // b = exp(l - max l) of a block's rows; returns the sums of the maxima.
    Vec<double> densities(Size block) {
        double highest[ROWS];
        const Size t = block * STEPS;
        law.densities(select(block), {0, K}, {0, K}, density(t), highest);
        const Vec<double> ends = load(lengths);
        Vec<double> sums{};
        for (Size r = 0; r < steps(block); ++r) sums += fill<double>(double(t + r)) < ends ? load(highest + r * N) : Vec<double>{};
        return sums;
    }

    // The blocks of a window, for which there was no room.
    void again(Size window) {
        if (window > 0) {
            const double* mark = marks.data() + (window - 1) * (row + N);
            std::copy(mark, mark + row, x + 0);
            std::copy(mark + row, mark + row + N, total);
        }
        Vec<double> known{};
        for (Size block = window * WINDOW; block < (window + 1) * WINDOW; ++block) {
            densities(block);
            with_states([&](auto few) EMKIT_INLINE { go<decltype(few)::value>(block, known); });
        }
    }

    // Calls use(k) for every state; FEW are their number if it is known, else 0. Then the vectors of a row stay in registers.
    template <int FEW, class Use> EMKIT_INLINE void for_each_state(Use use) const {
        if constexpr (FEW > 0) {
            EMKIT_UNROLL for (int k = 0; k < FEW; ++k) use(Size(k));
        } else {
            for (Size k = 0; k < K; ++k) use(k);
        }
    }

    // Calls use(k, sum_i x[i] matrix[i][k]).
    template <int FEW, class Use> EMKIT_INLINE void multiply(const Vec<double>* x, const double* matrix, Use use) const {
        const auto some = [&](Size k, auto width) EMKIT_INLINE {
            constexpr int W = decltype(width)::value;
            Vec<double> sums[W];
            clear<double>(sums);
            for_each_state<FEW>([&](Size i) EMKIT_INLINE {
                EMKIT_UNROLL for (int w = 0; w < W; ++w) sums[w] += x[i] * matrix[i * (FEW > 0 ? FEW : K) + k + w];
            });
            EMKIT_UNROLL for (int w = 0; w < W; ++w) use(k + w, sums[w]);
        };
        if constexpr (FEW > 0) {
            some(0, std::integral_constant<int, FEW>{});
        } else {
            for (Size k = 0; k < K; k += 4) with_size(int(std::min<Size>(4, K - k)), [&](auto width) EMKIT_INLINE { some(k, width); });
        }
    }

    // Calls use(the number of states), as FEW above.
    template <class Use> EMKIT_INLINE void with_states(Use use) const {
        if (K > 4) use(std::integral_constant<int, 0>{});
        else with_size(int(K), use);
    }

    // From each first state, for which a matrix of probabilities is carried along.
    template <int FEW> void multiply_out_few() {
        Vec<double> product[FEW][FEW], power[FEW];
        EMKIT_UNROLL for (int i = 0; i < FEW; ++i) {
            clear<double>(product[i]);
            product[i][i] = load(density(0) + i * STRIDE);
            power[i] = Vec<double>{};
        }
        const Vec<double> ends = load(lengths);
        for (Size t = 1; t < longest; ++t) {
            const auto running = fill<double>(double(t)) < ends;
            Vec<double> seen[FEW];
            EMKIT_UNROLL for (int k = 0; k < FEW; ++k) seen[k] = load(density(t) + k * STRIDE);
            EMKIT_UNROLL for (int i = 0; i < FEW; ++i) {
                Vec<double> next[FEW];
                clear<double>(next);
                EMKIT_UNROLL for (int j = 0; j < FEW; ++j)
                    EMKIT_UNROLL for (int k = 0; k < FEW; ++k) next[k] += product[i][j] * A[j * FEW + k];
                EMKIT_UNROLL for (int k = 0; k < FEW; ++k) product[i][k] = running ? next[k] * seen[k] : product[i][k];
            }
            EMKIT_UNROLL for (int i = 0; i < FEW; ++i) {
                Vec<double> sums = product[i][0];
                EMKIT_UNROLL for (int k = 1; k < FEW; ++k) sums += product[i][k];
                if (!below(sums, SMALL)) continue;
                const Vec<double> scale = inverse_power<double>(sums, power[i]);
                EMKIT_UNROLL for (int k = 0; k < FEW; ++k) product[i][k] *= scale;
            }
        }
        EMKIT_UNROLL for (int i = 0; i < FEW; ++i) {
            store<double>(powers + i * N, power[i]);
            EMKIT_UNROLL for (int k = 0; k < FEW; ++k) store<double>(products + (i * FEW + k) * N, product[i][k]);
        }
    }

    // Forward through a block.
    template <int FEW> void go(Size block, Vec<double>& exponents) {
        Size t = block * STEPS;
        const Size end = t + steps(block);
        const Vec<double> ends = load(lengths);
        const double* from = density(t);
        double* now = seen(t);
        Vec<double> x[FEW > 0 ? FEW : MOST_TOGETHER], sums = load(total);
        if (t > 0) {
            for_each_state<FEW>([&](Size k) EMKIT_INLINE { x[k] = load(now - row + k * N); });
        } else {
            sums = Vec<double>{};
            for_each_state<FEW>([&](Size k) EMKIT_INLINE {
                x[k] = load(first + k * N) * load(from + k * STRIDE);
                sums += x[k];
                store<double>(now + k * N, x[k]);
            });
            store<double>(begun, sums);
            ++t, from += N, now += row;
        }
        for (; t < end; ++t, from += N, now += row) {
            if (below(sums, SMALL)) {
                const Vec<double> scale = inverse_power<double>(sums, exponents);
                for_each_state<FEW>([&](Size k) EMKIT_INLINE { store<double>(now - row + k * N, x[k] *= scale); });
            }
            const auto running = fill<double>(double(t)) < ends;
            Vec<double> next[FEW > 0 ? FEW : MOST_TOGETHER];
            multiply<FEW>(x, A, [&](Size k, Vec<double> p) EMKIT_INLINE { next[k] = running ? p * load(from + k * STRIDE) : x[k]; });
            sums = Vec<double>{};
            for_each_state<FEW>([&](Size k) EMKIT_INLINE {
                x[k] = next[k];
                sums += x[k];
                store<double>(now + k * N, x[k]);
            });
        }
        store<double>(total, sums);
    }

    // Backward through a block, and hand it to the law.
    void turn(Size block) {
        const int count = int(steps(block));
        with_states([&](auto few) EMKIT_INLINE { meet<decltype(few)::value>(block * STEPS, count); });
        for (Size i = 0; i < K; i += 4)
            for (Size j = 0; j < K; j += 4)
                with_size(int(std::min<Size>(4, K - i)), [&](auto height) EMKIT_INLINE {
                    with_size(int(std::min<Size>(4, K - j)), [&](auto width) EMKIT_INLINE {
                        update<decltype(height)::value, decltype(width)::value>(i, j, count);
                    });
                });
        std::copy(to + 0, to + row, to + STEPS * row);
        law.add(selections[block % WINDOW], {0, K}, density(block * STEPS));
    }

    // From the last of these rows to the first; densities become weighted probabilities.
    template <int FEW> void meet(Size t, int count) {
        const Vec<double> ends = load(lengths), weight = load(weights), zero{};
        Vec<double> lowest = load(least), backward[FEW > 0 ? FEW : MOST_TOGETHER], joint[FEW > 0 ? FEW : MOST_TOGETHER];
        for_each_state<FEW>([&](Size k) EMKIT_INLINE { backward[k] = load(back + k * N); });
        for (int r = count - 1; r >= 0; --r) {
            const double* f = seen(t) + r * row;
            double *d = density(t) + r * N, *source = from + r * row, *target = to + r * row;
            const auto running = fill<double>(double(t + r)) < ends, ongoing = fill<double>(double(t + r + 1)) < ends;
            Vec<double> s{}, sums{};
            for_each_state<FEW>([&](Size k) EMKIT_INLINE {
                backward[k] = ongoing ? backward[k] : load(last + k * N);
                joint[k] = backward[k] * load(d + k * STRIDE);
                s += load(f + k * N) * backward[k];
                sums += joint[k];
            });
            lowest = smaller<double>(running ? s : lowest, lowest);
            const Vec<double> share = weight / larger<double>(s, fill<double>(LEAST));
            const Vec<double> here = running ? share : zero, onward = ongoing ? share : zero;
            if (below(sums, SMALL)) {
                Vec<double> ignored{};
                const Vec<double> scale = inverse_power<double>(sums, ignored);
                for_each_state<FEW>([&](Size k) EMKIT_INLINE { joint[k] *= scale; });
            }
            for_each_state<FEW>([&](Size k) EMKIT_INLINE {
                const Vec<double> probability = load(f + k * N);
                store<double>(d + k * STRIDE, probability * backward[k] * here);
                store<double>(source + k * N, probability * onward);
                store<double>(target + k * N, joint[k]);
            });
            multiply<FEW>(joint, transposed, [&](Size k, Vec<double> p) EMKIT_INLINE { backward[k] = p; });
        }
        for_each_state<FEW>([&](Size k) EMKIT_INLINE { store<double>(back + k * N, backward[k]); });
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
    Law& law;
    std::optional<Buffer<double>> memory;  // of all arrays at once
    double *A, *transposed, *b, *x, *from, *to, *back, *pairs;
    Size firsts[N], T[N];
    double lengths[N], weights[N], total[N], begun[N], least[N], logliks[N];
    std::vector<Selection> selections;
    std::vector<double> marks;  // before each window but the first
    Size longest = 0;
};

}  // namespace
}  // namespace emkit
