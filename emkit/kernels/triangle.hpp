// Lower triangular matrices: inverse, and the product with a strip of rows.

#pragma once

#include "chunks.hpp"

namespace emkit {

// x in T, and neither 0 nor infinite.
template <class T> T rounded(double x) {
    using Limits = std::numeric_limits<T>;
    return T(std::min(std::max(x, double(Limits::min())), double(Limits::max())));
}

// Inverse of a lower Cholesky factor. Its determinant is that of its elements rounded to T: the log-likelihood is then
// exactly that of parameters nearby, which near an optimum differs by the square of the rounding only. The same is done
// for the other shapes.
template <class T> double invert(const double* cholesky, Size d, double* inverse) {
    double log_determinant = 0.0;
    for (Size i = 0; i < d; ++i) {
        double* row = inverse + i * d;
        const double* c = cholesky + i * d;
        for (Size k = 0; k < i; ++k)
            for (Size j = 0; j <= k; ++j) row[j] -= c[k] * inverse[k * d + j];
        for (Size j = 0; j < i; ++j) row[j] /= c[i];
        row[i] = 1.0 / c[i];
        log_determinant += std::log(double(rounded<T>(row[i])));
    }
    return log_determinant;
}

// Lower triangular matrices are kept in panels of 4 outputs, column by column, so that a micro-kernel reads them in order.
// Where 4 does not divide d, some panels have 3, because one of 1 or 2 would wait for its own additions.
template <class F> EMKIT_INLINE inline void for_each_panel(Size d, F f) {
    const Size panels = (d + 3) / 4, wide = 4 * (d - 3 * panels);
    for (Size i = 0, height; i < d; i += height) {
        height = std::min<Size>(i < wide ? 4 : 3, d - i);
        f(i, int(height));
    }
}

inline Size panels_size(Size d) {
    Size size = 0;
    for_each_panel(d, [&](Size i, int height) { size += height * (i + height); });
    return size;
}

template <class T> void to_panels(const double* triangle, Size d, T* panels) {
    for_each_panel(d, [&](Size i, int height) {
        for (Size j = 0; j < i + height; ++j)
            for (int p = 0; p < height; ++p) *panels++ = j <= i + p ? T(triangle[(i + p) * d + j]) : T(0);
    });
}

// y = L x for one strip of rows; x (d, STRIP vectors) is contiguous. Each vector of y goes to use(output, v, y).
template <class T, class Use> EMKIT_INLINE inline void multiply(const T* L, const T* x, Size d, Use use) {
    constexpr int N = LANES<T>;
    for_each_panel(d, [&](Size i, int height) EMKIT_INLINE {
        with_size(height, [&](auto height_) EMKIT_INLINE {
            constexpr int P = decltype(height_)::value;
            Vec<T> y[P][STRIP];
            clear<T>(y);
            const T* l = L;
            for (Size j = 0; j < i + P; ++j, l += P) {
                Vec<T> column[STRIP];
                EMKIT_UNROLL for (int v = 0; v < STRIP; ++v) column[v] = load(x + (j * STRIP + v) * N);
                EMKIT_UNROLL for (int p = 0; p < P; ++p)
                    EMKIT_UNROLL for (int v = 0; v < STRIP; ++v) y[p][v] += l[p] * column[v];
            }
            L = l;
            EMKIT_UNROLL for (int p = 0; p < P; ++p)
                EMKIT_UNROLL for (int v = 0; v < STRIP; ++v) use(i + p, v, y[p][v]);
        });
    });
}

}  // namespace emkit
