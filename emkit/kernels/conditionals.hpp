// The missing cells of rows of a multivariate normal, given the observed ones.
//
// Patterns that miss the same number of cells are solved together, one in each lane of a vector.
#pragma once

#include "chunks.hpp"

#include <vector>

namespace emkit {
namespace {

constexpr int N = LANES<double>;

Size padded(Size size) { return (size + N - 1) / N * N; }

double dot(const double* a, const double* b, Size size) {
    Vec<double> total{}, other{};  // two sums, so that one addition need not wait for the last
    Size j = 0;
    for (; j + N < size; j += 2 * N) {
        total += load(a + j) * load(b + j);
        other += load(a + j + N) * load(b + j + N);
    }
    if (j < size) total += load(a + j) * load(b + j);
    return sum<double>(total + other);
}

Vec<double> square_root(Vec<double> v) {
    double lane[N];
    store<double>(lane, v);
    for (int l = 0; l < N; ++l) lane[l] = std::sqrt(lane[l]);
    return load(lane);
}

// Logarithms of positive numbers.
Vec<double> log_of_any(Vec<double> x) {
    Vec<double> exponents{};
    x *= inverse_power<double>(x, exponents);
    return exponents * 0.6931471805599453 + log<double>(x);
}

// Rows sorted by pattern, as both kernels receive them.
struct Holes {
    const Size* starts;  // (patterns + 1)
    const bool* missing;  // (patterns, p)
    Size patterns, p;

    int size(Size pattern) const {
        const bool* cell = missing + pattern * p;
        int count = 0;
        for (Size j = 0; j < p; ++j) count += cell[j];
        return count;
    }

    // Writes the missing columns of a pattern, and something after them.
    void columns(Size pattern, Size* column) const {
        const bool* cell = missing + pattern * p;
        for (Size j = 0; j < p; ++j) {  // no branch: which cells are missing cannot be foreseen
            *column = j;
            column += cell[j];
        }
    }
};

// What the missing cells of up to N patterns of one size are, given the observed ones.
class Conditionals {
  public:
    // The precision's rows are padded with zeros to `stride`.
    Conditionals(const double* precision, Size stride, int largest)
        : precision(precision), stride(stride), root(triangle(largest, 0) * N), product(triangle(largest, 0) * N),
          columns(N * largest + 1), gradient(largest) {}

    // Factor the precision of the missing cells of patterns first .. first + count.
    void factor(const Holes& holes, Size first, int count, int size) {
        m = size;
        if (m == 0) {
            std::fill(log_determinant, log_determinant + N, 0.0);
            return;
        }
        for (int l = 0; l < N; ++l) {  // lanes without a pattern repeat the last one
            Size* column = columns + l * m;
            if (l < count) holes.columns(first + l, column);
            else std::copy(column - m, column, column);
        }
        // product = K_mm
        for (int l = 0; l < N; ++l) {
            const Size* column = missing(l);
            double* to = product + l;
            for (int i = 0; i < m; ++i) {
                const double* row = precision + column[i] * stride;
                for (int j = 0; j <= i; ++j, to += N) *to = row[column[j]];
            }
        }
        // product = L, with K_mm = L L'
        Vec<double> log_pivots{}, pivots = fill<double>(1.0);
        for (int i = 0; i < m; ++i) {
            for (int j = 0; j <= i; ++j) {
                Vec<double> x = at(product, i, j);
                for (int k = 0; k < j; ++k) x -= at(product, i, k) * at(product, j, k);
                if (j < i) {
                    put(product, i, j, x * at(root, j, j));
                } else {
                    const Vec<double> pivot = square_root(x);
                    put(product, i, i, pivot);
                    put(root, i, i, 1.0 / pivot);
                    pivots *= pivot;
                }
            }
            if (i % 8 == 7 || i == m - 1) {  // a logarithm for eight pivots, which cannot overflow together
                log_pivots += log_of_any(pivots);
                pivots = fill<double>(1.0);
            }
        }
        store<double>(log_determinant, 2.0 * log_pivots);
        // root = L^-1
        for (int i = 1; i < m; ++i)
            for (int j = 0; j < i; ++j) {
                Vec<double> x{};
                for (int k = j; k < i; ++k) x -= at(product, i, k) * at(root, k, j);
                put(root, i, j, x * at(root, i, i));
            }
        // product = K_mm^-1
        for (int i = 0; i < m; ++i)
            for (int j = 0; j <= i; ++j) {
                Vec<double> x{};
                for (int k = i; k < m; ++k) x += at(root, k, i) * at(root, k, j);
                put(product, i, j, x);
            }
    }

    const Size* missing(int lane) const { return columns + lane * m; }
    double covariance(int i, int j, int lane) const { return product[triangle(i, j) * N + lane]; }

    // Replace the missing cells of a deviation from the mean, whatever they are, by their conditional means: those at
    // which the gradient of z'Kz, a quadratic function, vanishes.
    void complete(int lane, double* z) {
        const Size* column = missing(lane);
        for (int i = 0; i < m; i += 4)
            with_size(std::min(4, m - i), [&](auto size) EMKIT_INLINE { dots<decltype(size)::value>(column + i, z, gradient + i); });
        for (int i = 0; i < m; ++i) {
            double x = 0.0;
            for (int j = 0; j <= i; ++j) x += covariance(i, j, lane) * gradient[j];
            for (int j = i + 1; j < m; ++j) x += covariance(j, i, lane) * gradient[j];
            z[column[i]] -= x;
        }
    }

    // What a draw adds to the mean of missing cell j, of standard normal noise: (L'^-1 e)_j.
    double noise(int j, int lane, const double* e) const {
        double x = 0.0;
        for (int i = j; i < m; ++i) x += root[triangle(i, j) * N + lane] * e[missing(lane)[i]];
        return x;
    }

    int m = 0;
    double log_determinant[N];  // log|K_mm|

  private:
    static Size triangle(Size i, Size j) { return i * (i + 1) / 2 + j; }
    static Vec<double> at(const double* matrix, int i, int j) { return load(matrix + triangle(i, j) * N); }
    static void put(double* matrix, int i, int j, Vec<double> x) { store<double>(matrix + triangle(i, j) * N, x); }

    // Products of P rows of the precision with z.
    template <int P> EMKIT_INLINE void dots(const Size* column, const double* z, double* to) const {
        Vec<double> total[P];
        clear<double>(total);
        for (Size j = 0; j < stride; j += N) {
            const Vec<double> here = load(z + j);
            EMKIT_UNROLL for (int p = 0; p < P; ++p) total[p] += load(precision + column[p] * stride + j) * here;
        }
        EMKIT_UNROLL for (int p = 0; p < P; ++p) to[p] = sum<double>(total[p]);
    }

    const double* precision;
    const Size stride;
    Buffer<double> root, product;
    Buffer<Size> columns;
    Buffer<double> gradient;
};

// Calls use(conditionals, lane, pattern) for every pattern, its factor being ready.
template <class Use> void for_each_pattern(const Holes& holes, const double* precision, Size stride, Use use) {
    std::vector<int> sizes(holes.patterns);
    for (Size s = 0; s < holes.patterns; ++s) sizes[s] = holes.size(s);
    const int largest = sizes.empty() ? 0 : *std::max_element(sizes.begin(), sizes.end());
    Conditionals conditionals(precision, stride, std::max(1, largest));
    for (Size first = 0; first < holes.patterns;) {
        int count = 1;
        while (count < N && first + count < holes.patterns && sizes[first + count] == sizes[first]) ++count;
        conditionals.factor(holes, first, count, sizes[first]);
        for (int l = 0; l < count; ++l) use(conditionals, l, first + l);
        first += count;
    }
}

}  // namespace
}  // namespace emkit
