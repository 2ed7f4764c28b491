// Transition matrices, dense or banded: the recursion through rows of states, and the transitions that it counts.

#pragma once

#include "chain.hpp"

namespace emkit {
namespace {

// M[source][target]: transmat for the direction from the left, its transpose for the one from the right. All have
//   stride                        of rows of states
//   run(b, p, x, step, ...)       the recursion, row by row, each `step` after the one before
//   replay(b, p, x, step, ...)    the same where p is known
//   is_costly()                   whether to compute p takes longer than to write it down and read it again
//   update(x, y, count, pairs)    pairs += x' y where M is not 0
//   collect(pairs, add)           add(source, target, M * pairs)

// Rows of states padded to whole vectors, with zeros.
class Padded {
  public:
    const Size K, stride;

    // The recursion, p being known.
    void replay(const double* b, double* p, double* x, Size step, int count, double& total, Size& exponents) const {
        recur(b, p, x, step, count, total, exponents, [&](const double* from, Size k, auto& to) EMKIT_INLINE {
            const double* row = p + (from + step - x) + k;
            for (size_t w = 0; w < std::size(to); ++w) to[w] = load(row + w * N);
        });
    }

  protected:
    explicit Padded(Size K) : K(K), stride(round_up(K, std::max(4, N))) {}

    // The recursion, given product(x, k, p): p[w] = (M x)[k + w * N ...] for W vectors. A row is scaled only when it
    // has become small: so no row waits for the sum of the one before.
    template <class Product>
    void recur(const double* b, double* p, double* x, Size step, int count, double& total, Size& exponents, Product product) const {
        for (int r = 0; r < count; ++r, b += step, p += step, x += step) {
            if (total < SMALL) {
                const double scale = scale_of(total, exponents);
                for (Size k = 0; k < stride; k += N) store<double>(x - step + k, load(x - step + k) * scale);
            }
            Vec<double> sums{};
            for (Size k = 0; k < stride; k += 4 * N)
                with_size(int(std::min<Size>(4, (stride - k) / N)), [&](auto width) EMKIT_INLINE {
                    constexpr int W = decltype(width)::value;
                    Vec<double> to[W];
                    product(x - step, k, to);
                    EMKIT_UNROLL for (int w = 0; w < W; ++w) {
                        const Vec<double> now = to[w] * load(b + k + w * N);
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

    bool is_costly() const { return K > 16; }

    explicit Dense(const Transitions& A) : Padded(A.K), size(stride * stride), M(size) {
        for (Size i = 0; i < K; ++i)
            for (Size j = 0; j < K; ++j) M[i * stride + j] = A(i, j);
    }

    void run(const double* b, double* p, double* x, Size step, int count, double& total, Size& exponents) const {
        recur(b, p, x, step, count, total, exponents, [&](const double* from, Size k, auto& to) EMKIT_INLINE {
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

    bool is_costly() const { return false; }

    explicit Band(const Transitions& A) : Padded(A.K), offsets(diagonals(A)), size(stride * Size(offsets.size())), M(size) {
        for (size_t d = 0; d < offsets.size(); ++d)
            for (Size j = std::max<Size>(0, offsets[d]); j < std::min(K, K + offsets[d]); ++j) M[d * stride + j] = A(j - offsets[d], j);
    }

    // Outside the matrix M is 0, and x another row or the margin: finite.
    void run(const double* b, double* p, double* x, Size step, int count, double& total, Size& exponents) const {
        recur(b, p, x, step, count, total, exponents, [&](const double* from, Size k, auto& to) EMKIT_INLINE {
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

}  // namespace
}  // namespace emkit
