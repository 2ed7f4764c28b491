// Several sequences, or pieces of a long one, side by side.
//
// Lane n of every vector belongs to the n-th of them; row t of all is K vectors. What is computed for a lane beyond its
// last row is finite and discarded.

#pragma once

#include "chain_law.hpp"

namespace emkit {
namespace {

struct Lane {
    Size begin = 0, T = 0;  // its rows
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
    Buffer<double> starts;    // (K, N) weighted probabilities of the first state

    Together(const double* transmat, Size K, Law& law)
        : first(K * N), last(K * N), products(K * K * N), powers(K * N), ends(K * N), begins(K * N), starts(K * N), K(K), row(K * N),
          law(law), A(K * K), transposed(K * K), states(N * K * STRIDE), b(ROWS * row), x((ROWS + 1) * row), from(STEPS * row),
          to((STEPS + 1) * row), back(row), pairs(K * row), lengths(N), weights(N), highest(N), exponents(N), total(N), least(N) {
        for (Size i = 0; i < K; ++i)
            for (Size j = 0; j < K; ++j) A[i * K + j] = transposed[j * K + i] = transmat[i * K + j];
    }

    // For `smooth` of lanes of at most T rows.
    void make_room(Size T) { marks.reserve((T + ROWS - 1) / ROWS * (row + N)); }

    // Fill products and powers, of at most ROWS rows.
    void multiply_out() {
        begin();
        densities(0);
        with_size(int(K), [&](auto size) EMKIT_INLINE { multiply_out_few<decltype(size)::value>(); });
    }

    // Hand the weighted probabilities of the states to the law.
    void smooth() {
        begin();
        std::fill(highest + 0, highest + N, 0.0);
        std::fill(exponents + 0, exponents + N, 0.0);
        const Size n_blocks = (longest + ROWS - 1) / ROWS;
        marks.resize(n_blocks * (row + N));
        for (Size block = 0; block < n_blocks; ++block) {
            double* const mark = marks.data() + block * (row + N);
            std::copy(x + 0, x + row, mark);
            std::copy(total + 0, total + N, mark + row);
            densities(block * ROWS, highest);
            go(block * ROWS, exponents);
        }
        std::copy(x + 0, x + row, ends + 0);
        for (int n = 0; n < N; ++n) logliks[n] = highest[n] + LOG_2 * exponents[n] + std::log(total[n]);

        std::fill(least + 0, least + N, 1.0);
        std::fill(back + 0, back + row, 0.0);
        std::fill(pairs + 0, pairs + K * row, 0.0);
        Vec<double> after{};
        for (Size block = n_blocks - 1; block >= 0; --block) {
            if (block < n_blocks - 1) {
                const double* mark = marks.data() + block * (row + N);
                std::copy(mark, mark + row, x + 0);
                std::copy(mark + row, mark + row + N, total + 0);
                densities(block * ROWS);
                go(block * ROWS, exponents);
            }
            turn(block * ROWS, after);
        }
        std::copy(to + 0, to + row, begins + 0);
        std::copy(b + 0, b + row, starts + 0);
    }

    bool good(int n) const { return least[n] >= LEAST; }
    double loglik(int n) const { return logliks[n]; }

    // Of one lane, after `smooth`.
    void collect(int n, double* transitions) const {
        for (Size k = 0; k < K * K; ++k) transitions[k] += A[k] * pairs[k * N + n];
    }

  private:
    static constexpr int STEPS = 16;  // rows whose transitions are counted at a time

    void begin() {
        longest = 0;
        for (int n = 0; n < N; ++n) {
            lengths[n] = double(lanes[n].T);
            weights[n] = lanes[n].weight;
            longest = std::max(longest, lanes[n].T);
        }
    }

    int count(Size t) const { return int(std::min<Size>(ROWS, longest - t)); }
    int own(int n, Size t) const { return int(std::clamp<Size>(lanes[n].T - t, 0, ROWS)); }

    // b = exp(l - max l) of the rows from t on; their maxima are added to `highest`.
    void densities(Size t, double* highest = nullptr) {
        for (int n = 0; n < N; ++n) {
            double* const lane = states + n * K * STRIDE;
            const int rows = own(n, t), whole = int(round_up(rows, N));
            if (rows > 0) {
                const double sum = law.densities(lanes[n].begin + t, rows, {0, K}, lane).sum;
                if (highest) highest[n] += sum;
            }
            for (Size k = 0; k < K; ++k) std::fill(lane + k * STRIDE + whole, lane + k * STRIDE + round_up(count(t), N), 1.0);
        }
        for_each_square(t, [&](double* column, double* rows) EMKIT_INLINE {
            Vec<double> square[N];
            EMKIT_UNROLL for (int n = 0; n < N; ++n) square[n] = load(column + n * K * STRIDE);
            transpose_square<double>(square);
            EMKIT_UNROLL for (int r = 0; r < N; ++r) store<double>(rows + r * row, square[r]);
        });
    }

    // What stands in b goes to the law.
    void hand_over(Size t) {
        for_each_square(t, [&](double* column, double* rows) EMKIT_INLINE {
            Vec<double> square[N];
            EMKIT_UNROLL for (int r = 0; r < N; ++r) square[r] = load(rows + r * row);
            transpose_square<double>(square);
            EMKIT_UNROLL for (int n = 0; n < N; ++n) store<double>(column + n * K * STRIDE, square[n]);
        });
        for (int n = 0; n < N; ++n)
            if (own(n, t) > 0) law.add(lanes[n].begin + t, own(n, t), {0, K}, states + n * K * STRIDE);
    }

    // Calls use(N rows of one state in `states`, the same in b).
    template <class Use> EMKIT_INLINE void for_each_square(Size t, Use use) {
        for (int r = 0; r < count(t); r += N)
            for (Size k = 0; k < K; ++k) use(states + k * STRIDE + r, b + r * row + k * N);
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

    // From each first state, for which a matrix of probabilities is carried along.
    template <int FEW> void multiply_out_few() {
        Vec<double> product[FEW][FEW], power[FEW];
        EMKIT_UNROLL for (int i = 0; i < FEW; ++i) {
            clear<double>(product[i]);
            product[i][i] = load(b + i * N);
            power[i] = Vec<double>{};
        }
        const Vec<double> ends = load(lengths + 0);
        for (Size t = 1; t < longest; ++t) {
            const auto running = fill<double>(double(t)) < ends;
            Vec<double> density[FEW];
            EMKIT_UNROLL for (int k = 0; k < FEW; ++k) density[k] = load(b + t * row + k * N);
            EMKIT_UNROLL for (int i = 0; i < FEW; ++i) {
                Vec<double> next[FEW];
                clear<double>(next);
                EMKIT_UNROLL for (int j = 0; j < FEW; ++j)
                    EMKIT_UNROLL for (int k = 0; k < FEW; ++k) next[k] += product[i][j] * A[j * FEW + k];
                EMKIT_UNROLL for (int k = 0; k < FEW; ++k) product[i][k] = running ? next[k] * density[k] : product[i][k];
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

    // Forward from row t, that before it standing before the others in x; then it is the last one.
    void go(Size t, double* exponents) {
        const int starts = t == 0;
        if (starts) {
            Vec<double> sums{};
            for (Size k = 0; k < row; k += N) {
                const Vec<double> joint = load(first + k) * load(b + k);
                store<double>(x + row + k, joint);
                sums += joint;
            }
            store<double>(total, sums);
        }
        Vec<double> sums = load(total + 0), powers = load(exponents);
        const Vec<double> ends = load(lengths + 0);
        const double* density = b + starts * row;
        double* now = x + (1 + starts) * row;
        for (int r = starts; r < count(t); ++r, density += row, now += row) {
            if (below(sums, SMALL)) {
                const Vec<double> scale = inverse_power<double>(sums, powers);
                for (Size k = 0; k < row; k += N) store<double>(now - row + k, load(now - row + k) * scale);
            }
            const auto running = fill<double>(double(t + r)) < ends;
            Vec<double> next{};
            for (Size k = 0; k < K; k += 4)
                with_size(int(std::min<Size>(4, K - k)), [&](auto width) EMKIT_INLINE {
                    constexpr int W = decltype(width)::value;
                    Vec<double> p[W];
                    multiply<W>(A, now - row, k, p);
                    EMKIT_UNROLL for (int w = 0; w < W; ++w) {
                        const Size at = (k + w) * N;
                        const Vec<double> joint = running ? p[w] * load(density + at) : load(now - row + at);
                        store<double>(now + at, joint);
                        next += joint;
                    }
                });
            sums = next;
        }
        store<double>(total, sums);
        store<double>(exponents, powers);
        std::copy(x + count(t) * row, x + (count(t) + 1) * row, x + 0);
    }

    // Backward through the rows from t on.
    void turn(Size t, Vec<double>& after) {
        for (int begin = (count(t) - 1) / STEPS * STEPS; begin >= 0; begin -= STEPS) {
            const int rows = std::min(STEPS, count(t) - begin);
            meet(t + begin, rows, x + (begin + 1) * row, b + begin * row, after);
            for (Size i = 0; i < K; i += 4)
                for (Size j = 0; j < K; j += 4)
                    with_size(int(std::min<Size>(4, K - i)), [&](auto height) EMKIT_INLINE {
                        with_size(int(std::min<Size>(4, K - j)), [&](auto width) EMKIT_INLINE {
                            update<decltype(height)::value, decltype(width)::value>(i, j, rows);
                        });
                    });
            std::copy(to + 0, to + row, to + STEPS * row);
        }
        hand_over(t);
    }

    // From the last of these rows to the first; densities become weighted probabilities.
    void meet(Size t, int count, const double* forward, double* density, Vec<double>& after) {
        const Vec<double> ends = load(lengths + 0), weight = load(weights + 0);
        Vec<double> lowest = load(least + 0);
        for (int r = count - 1; r >= 0; --r) {
            const double* f = forward + r * row;
            double *d = density + r * row, *source = from + r * row, *target = to + r * row;
            const auto running = fill<double>(double(t + r)) < ends, ongoing = fill<double>(double(t + r + 1)) < ends;
            const Vec<double> zero{};
            Vec<double> s{}, next{}, ignored{};
            const Vec<double> scale = ongoing ? inverse_power<double>(after, ignored) : fill<double>(1.0);
            for (Size k = 0; k < row; k += N) {
                const Vec<double> backward = ongoing ? load(back + k) : load(last + k);
                store<double>(back + k, backward);
                s += load(f + k) * backward;
            }
            const Vec<double> seen = running ? s : lowest;
            lowest = seen < lowest ? seen : lowest;
            const Vec<double> share = weight / larger<double>(s, fill<double>(LEAST));
            const Vec<double> here = running ? share : zero, onward = ongoing ? share : zero;
            for (Size k = 0; k < row; k += N) {
                const Vec<double> probability = load(f + k), backward = load(back + k);
                const Vec<double> joint = backward * (load(d + k) * scale);
                store<double>(d + k, probability * backward * here);
                store<double>(source + k, probability * onward);
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
    Law& law;
    Buffer<double> A, transposed, states, b, x, from, to, back, pairs, lengths, weights, highest, exponents, total, least;
    double logliks[N];
    std::vector<double> marks;
    Size longest = 0;
};

}  // namespace
}  // namespace emkit
