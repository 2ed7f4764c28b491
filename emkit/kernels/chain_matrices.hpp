// Transition matrices, dense or banded: the recursion through rows of states, and the transitions that it counts.

#pragma once

#include "chain.hpp"

namespace emkit {
namespace {

// M[source][target]: transmat for the direction from the left, its transpose for the one from the right. All have
//   stride                        of rows of states
//   run(b, p, x, step, ...)       the recursion, row by row, each `step` after the one before, of a window of the states
//   replay(b, p, x, step, ...)    the same where p is known
//   window(x)                     the states that can soon be other than 0 if these are now
//   wider(window, x, count)       a wider window if rows have come to its end, else the same
//   reach(window)                 the states to which those in a window lead
//   is_costly()                   whether to compute p takes longer than to write it down and read it again
//   update(x, y, count, ...)      pairs += x' y where M is not 0 and y in a window
//   collect(pairs, add)           add(source, target, M * pairs)

// Rows of states padded to whole vectors, with zeros.
class Padded {
  public:
    const Size K, stride;

    Range window(const double*) const { return {0, K}; }
    Range wider(Range window, const double*, int) const { return window; }
    Range reach(Range window) const { return window; }
    Range whole_vectors(Range window) const { return {window.first / N * N, std::min(round_up(window.last, N), stride)}; }

    // The recursion, p being known.
    void replay(Range window, const double* b, double* p, double* x, Size step, int count, Scaling& scaling) const {
        recur<false>(window, b, p, x, step, count, scaling, [&](const double* from, Size k, auto& to) EMKIT_INLINE {
            const double* row = p + (from + step - x) + k;
            for (size_t w = 0; w < std::size(to); ++w) to[w] = load(row + w * N);
        });
    }

  protected:
    explicit Padded(Size K) : K(K), stride(round_up(K, std::max(4, N))) {}

    // The recursion, given product(x, k, p): p[w] = (M x)[k + w * N ...] for W vectors. A row is scaled only when it
    // has become small: so no row waits for the sum of the one before. With IN_WINDOW what is negligible becomes 0.
    template <bool IN_WINDOW, class Product>
    void recur(Range window, const double* b, double* p, double* x, Size step, int count, Scaling& scaling,
               Product product) const {
        const auto [begin, end] = whole_vectors(window);
        for (int r = 0; r < count; ++r, b += step, p += step, x += step) {
            if (scaling.total < SMALL) {  // the row before these may have come from another window
                const double scale = scale_of(scaling.total, scaling);
                for (Size k = r > 0 ? begin : 0; k < (r > 0 ? end : stride); k += N) store<double>(x - step + k, load(x - step + k) * scale);
            }
            Vec<double> sums{};
            for (Size k = begin; k < end; k += 4 * N)
                with_size(int(std::min<Size>(4, (end - k) / N)), [&](auto width) EMKIT_INLINE {
                    constexpr int W = decltype(width)::value;
                    Vec<double> to[W];
                    product(x - step, k, to);
                    EMKIT_UNROLL for (int w = 0; w < W; ++w) {
                        Vec<double> now = to[w] * load(b + k + w * N);
                        if constexpr (IN_WINDOW) now = matter(now);
                        store<double>(p + k + w * N, to[w]);
                        store<double>(x + k + w * N, now);
                        sums += now;
                    }
                });
            scaling.total = sum<double>(sums);
        }
    }
};

class Dense : public Padded {
  public:
    const Size size;

    bool is_costly() const { return K > 16; }

    explicit Dense(const Transitions& A) : Padded(A.K), size(stride * stride), M(size) {
        for (Size i = 0; i < K; ++i)
            for (Size j = 0; j < K; ++j) M[i * stride + j] = A(i, j);
    }

    void run(Range window, const double* b, double* p, double* x, Size step, int count, Scaling& scaling) const {
        recur<false>(window, b, p, x, step, count, scaling, [&](const double* from, Size k, auto& to) EMKIT_INLINE {
            constexpr int W = std::extent_v<std::remove_reference_t<decltype(to)>>, U = W < 3 ? 4 : 2;
            Vec<double> part[U][W];  // U sums, so that no addition waits for the last
            clear<double>(part);
            const double* m = M + k;
            for (Size i = 0; i < stride; i += U, m += U * stride)
                EMKIT_UNROLL for (int u = 0; u < U; ++u)
                    EMKIT_UNROLL for (int w = 0; w < W; ++w) part[u][w] += from[i + u] * load(m + u * stride + w * N);
            EMKIT_UNROLL for (int w = 0; w < W; ++w) {
                if constexpr (U == 2) to[w] = part[0][w] + part[1][w];
                else to[w] = (part[0][w] + part[1][w]) + (part[2][w] + part[3][w]);
            }
        });
    }

    void update(Range, const double* x, const double* y, int count, double* pairs) const {
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

// A few diagonals: left-right and banded chains. Their sequences are in few states at a time: the others are passed over.
class Band : public Padded {
  public:
    const std::vector<Size> offsets;
    const Size size;

    // Next to what is now other than 0, a few states more on the side to which transitions lead.
    Range window(const double* x) const {
        Size first = 0, last = K;
        while (first < K && x[first] == 0.0) ++first;
        while (last > first && x[last - 1] == 0.0) --last;
        if (behind > 0) first = std::max<Size>(0, first - behind - AROUND);
        if (ahead > 0) last = std::min(K, last + ahead + AROUND);
        return {first, last};
    }

    Range wider(Range window, const double* x, int count) const {
        const Range inner{window.first > 0 ? window.first + behind : 0, window.last < K ? window.last - ahead : K};
        if (any(x, window.first, inner.first, count)) window.first = std::max<Size>(0, window.first - behind - N);
        if (any(x, inner.last, window.last, count)) window.last = std::min(K, window.last + ahead + N);
        return window;
    }

    Range reach(Range window) const { return {std::max<Size>(0, window.first - behind), std::min(K, window.last + ahead)}; }

    bool is_costly() const { return false; }

    explicit Band(const Transitions& A)
        : Padded(A.K), offsets(diagonals(A)), size(stride * Size(offsets.size())), ahead(std::max<Size>(0, offsets.front())),
          behind(std::max<Size>(0, -offsets.back())), M(size), nothing(stride) {
        for (size_t d = 0; d < offsets.size(); ++d)
            for (Size j = std::max<Size>(0, offsets[d]); j < std::min(K, K + offsets[d]); ++j) M[d * stride + j] = A(j - offsets[d], j);
    }

    // Outside the matrix M is 0, and x another row or the margin: finite.
    void run(Range window, const double* b, double* p, double* x, Size step, int count, Scaling& scaling) const {
        const auto [begin, end] = whole_vectors(window);
        if (ahead <= 1 && behind <= 1 && end > begin && end - begin <= 4 * N) {
            with_size(int((end - begin) / N), [&, begin = begin](auto width) EMKIT_INLINE {
                constexpr int W = decltype(width)::value;
                if (behind == 0) run_near<W, true, false>(begin, b, p, x, step, count, scaling);
                else if (ahead == 0) run_near<W, false, true>(begin, b, p, x, step, count, scaling);
                else run_near<W, true, true>(begin, b, p, x, step, count, scaling);
            });
            return;
        }
        recur<true>(window, b, p, x, step, count, scaling, [&](const double* from, Size k, auto& to) EMKIT_INLINE {
            constexpr int W = std::extent_v<std::remove_reference_t<decltype(to)>>;
            clear<double>(to);
            const double* m = M + k;
            for (const Size o : offsets) {
                EMKIT_UNROLL for (int w = 0; w < W; ++w) to[w] += load(m + w * N) * load(from + k + w * N - o);
                m += stride;
            }
        });
    }

    void update(Range window, const double* x, const double* y, int count, double* pairs) const {
        for (const Size o : offsets) {
            for (Size k = window.first; k < window.last; k += 4 * N)
                with_size(int(std::min<Size>(4, (window.last - k) / N)), [&](auto width) EMKIT_INLINE {
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
    static constexpr Size AROUND = 1;

    const double* diagonal(Size offset) const {
        const auto found = std::find(offsets.begin(), offsets.end(), offset);
        return found == offsets.end() ? nothing : M + (found - offsets.begin()) * stride;
    }

    // The recursion where transitions lead to neighbours at most, on these sides: a row stays in registers for the next, so
    // that no load waits for two stores. What is negligible stays there until a row is scaled: no row waits to be rid of it.
    template <int W, bool AHEAD, bool BEHIND>
    EMKIT_KEEP void run_near(Size begin, const double* b, double* p, double* x, Size step, int count, Scaling& scaling) const {
        const double *up = diagonal(1) + begin, *stay = diagonal(0) + begin, *down = diagonal(-1) + begin;
        if (scaling.total < SMALL) {
            const double scale = scale_of(scaling.total, scaling);
            for (Size k = 0; k < stride; k += N) store<double>(x - step + k, load(x - step + k) * scale);
            scaling.total *= scale;
        }
        b += begin, p += begin, x += begin;
        Vec<double> row[W + 2], sums = fill<double>(1.0);  // the row with what stands beyond its ends
        EMKIT_UNROLL for (int w = 0; w < W + 2; ++w) row[w] = load(x - step + (w - 1) * N);
        for (int r = 0; r < count; ++r, b += step, p += step, x += step) {
            if (all_below(sums, SMALL / N)) {
                const double scale = scale_of(sum<double>(sums), scaling);
                EMKIT_UNROLL for (int w = 1; w <= W; ++w) store<double>(x - step + (w - 1) * N, row[w] = matter(row[w]) * scale);
            }
            sums = Vec<double>{};
            Vec<double> now[W];
            EMKIT_UNROLL for (int w = 0; w < W; ++w) {
                const Vec<double> density = load(b + w * N);
                Vec<double> before{};
                now[w] = Vec<double>{};
                const auto come = [&](const double* M, Vec<double> from) EMKIT_INLINE {
                    const Vec<double> share = load(M + w * N);
                    before += share * from;
                    now[w] += share * density * from;  // not `before * density`, which would wait for the sum
                };
                come(stay, row[w + 1]);
                if constexpr (AHEAD) come(up, across<N - 1>(row[w], row[w + 1]));
                if constexpr (BEHIND) come(down, across<1>(row[w + 1], row[w + 2]));
                const Vec<double> kept = matter(now[w]);
                store<double>(p + w * N, before);
                store<double>(x + w * N, kept);
                sums += kept;
            }
            EMKIT_UNROLL for (int w = 0; w < W; ++w) row[w + 1] = now[w];
            row[0] = row[W + 1] = Vec<double>{};
        }
        if (count > 0) scaling.total = sum<double>(sums);
    }

    bool any(const double* x, Size first, Size last, int count) const {
        for (Size k = first; k < last; ++k)
            for (int r = 0; r < count; ++r)
                if (x[r * stride + k] > 0.0) return true;
        return false;
    }

    const Size ahead, behind;  // how far a transition leads
    Buffer<double> M, nothing;
};

}  // namespace
}  // namespace emkit