// Sums of products of rows with holes: all at once, or only what the holes add.
#pragma once

#include "conditionals.hpp"

namespace emkit {
namespace {

// Sum of outer products of rows, held in the nearest cache a chunk at a time.
class Scatter {
  public:
    explicit Scatter(Size width)
        : width(width), stride(padded(width)), capacity(std::max<Size>(16, 4096 / stride)), rows(capacity * stride),
          total(padded4(width) * stride) {}

    double* next() {
        if (used == capacity) flush();
        return rows + stride * used++;
    }

    // Lower triangle, rows `stride` apart.
    double* finish() {
        flush();
        return total;
    }

    const Size width, stride;

  private:
    static Size padded4(Size size) { return (size + 3) / 4 * 4; }

    void flush() {
        for (Size i = 0; i < width; i += 4)
            for (Size j = 0; j <= i + 3 && j < stride; j += 3 * N) {
                const int vectors = int(std::min<Size>(3, (std::min(i + 4, stride) - j + N - 1) / N));
                with_size(vectors, [&](auto vectors_) { update<std::min(3, decltype(vectors_)::value)>(i, j); });
            }
        used = 0;
    }

    template <int Q> void update(Size i, Size j) {
        Vec<double> tile[4][Q];
        double* to = total + i * stride + j;
        for (int a = 0; a < 4; ++a)
            for (int q = 0; q < Q; ++q) tile[a][q] = load(to + a * stride + q * N);
        // Columns beyond the last row's end belong to the next row: they feed rows of the total that nobody reads.
        const double* z = rows;
        for (Size r = 0; r < used; ++r, z += stride) {
            Vec<double> right[Q];
            for (int q = 0; q < Q; ++q) right[q] = load(z + j + q * N);
            for (int a = 0; a < 4; ++a)
                for (int q = 0; q < Q; ++q) tile[a][q] += z[i + a] * right[q];
        }
        for (int a = 0; a < 4; ++a)
            for (int q = 0; q < Q; ++q) store<double>(to + a * stride + q * N, tile[a][q]);
    }

    const Size capacity;
    Size used = 0;
    Buffer<double> rows, total;
};

// What missing cells add to the moments of rows.
//
// Products of two missing cells come about twice, and so are taken by halves: everything is added to its own mirror image.
class Filled {
  public:
    Filled(Size d, Size stride) : d(d), stride(stride), first(d), halves(d * stride) {}

    // Of a pattern: the conditional covariances.
    void spread(const Conditionals& conditionals, int lane, double count) {
        const Size* column = conditionals.missing(lane);
        for (int i = 0; i < conditionals.m; ++i) {
            double* to = halves + column[i] * stride;
            for (int j = 0; j < i; ++j) to[column[j]] += count * conditionals.covariance(i, j, lane);
            to[column[i]] += 0.5 * count * conditionals.covariance(i, i, lane);
        }
    }

    // Of a row: products with the conditional means, which are `away` from its holes, 0.
    void add(const Conditionals& conditionals, int lane, double* row, const double* away, double weight, bool moves) {
        const Size* column = conditionals.missing(lane);
        for (int i = 0; i < conditionals.m; ++i) row[column[i]] = -0.5 * away[i];
        for (int i = 0; i < conditionals.m; ++i) {
            const double value = -weight * away[i];
            if (moves) first[column[i]] += value;
            double* to = halves + column[i] * stride;
            for (Size j = 0; j < stride; j += N) store<double>(to + j, load(to + j) + value * load(row + j));
        }
    }

    // Moments about the mean, from those of the rest about 0.
    void finish(const double* sums, const double* mean, double* to_first, double* to) const {
        const double* of_moving = sums + d * (d + 1);
        const double rows = of_moving[d];
        for (Size i = 0; i < d; ++i) to_first[i] = of_moving[i] + first[i];
        for (Size i = 0; i < d; ++i)
            for (Size j = 0; j <= i; ++j) {
                const double moved = mean[i] * to_first[j] + mean[j] * (to_first[i] - rows * mean[i]);
                to[i * d + j] = to[j * d + i] = sums[i * (d + 1) + j] + mirrored(i, j) - moved;
            }
        for (Size i = 0; i < d; ++i) to_first[i] -= rows * mean[i];
    }

    // The same, from those of completed deviations, as Scatter gives them.
    void finish(const double* total, Size stride, double* to_first, double* to) const {
        for (Size i = 0; i < d; ++i)
            for (Size j = 0; j <= i; ++j) to[i * d + j] = to[j * d + i] = total[i * stride + j] + mirrored(i, j);
        std::copy(total + d * stride, total + d * stride + d, to_first);
    }

  private:
    double mirrored(Size i, Size j) const { return halves[i * stride + j] + halves[j * stride + i]; }

    const Size d, stride;
    Buffer<double> first, halves;
};

}  // namespace
}  // namespace emkit
