// The missing cells of rows of a multivariate normal, given the observed ones.
//
// Patterns that miss the same number of cells are solved together, one in each lane of a vector.
#pragma once

#include "chunks.hpp"

#include <bitset>
#include <vector>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "masks are made from bytes in little-endian order; without these kernels emkit runs on NumPy"
#endif

namespace emkit {
namespace {

constexpr int N = LANES<double>;
constexpr double NOT_A_NUMBER = std::numeric_limits<double>::quiet_NaN();

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
        int count = 0;
        for_each_mask(pattern, [&](Size, std::uint64_t mask) { count += int(std::bitset<64>(mask).count()); });
        return count;
    }

    // Writes the missing columns of a pattern.
    void columns(Size pattern, Size* column) const {
        for_each_mask(pattern, [&](Size first, std::uint64_t mask) {
            for (; mask != 0; mask &= mask - 1) *column++ = first + trailing_zeros(mask);
        });
    }

  private:
    // Calls use(column, mask), bit i of the mask being set if cell column + i is missing.
    template <class Use> EMKIT_INLINE void for_each_mask(Size pattern, Use use) const {
        const bool* cell = missing + pattern * p;
        for (Size first = 0; first < p; first += 64) {
            const Size last = std::min<Size>(p, first + 64);
            std::uint64_t mask = 0;
            Size j = first;
            for (; j + 8 <= last; j += 8) {  // the lowest bits of eight bytes come together in the highest byte
                std::uint64_t bytes;
                std::memcpy(&bytes, cell + j, 8);
                mask |= (bytes * 0x0102040810204080) >> 56 << (j - first);
            }
            for (; j < last; ++j) mask |= std::uint64_t(cell[j]) << (j - first);
            use(first, mask);
        }
    }

    static int trailing_zeros(std::uint64_t mask) { return int(std::bitset<64>((mask & -mask) - 1).count()); }
};

// What the missing cells of up to N patterns of one size are, given the observed ones.
class Conditionals {
  public:
    // The precision's rows are padded with zeros to `stride`.
    Conditionals(const double* precision, Size stride, int largest)
        : precision(precision), stride(stride), root(triangle(largest, 0) * N), product(triangle(largest, 0) * N), inverses(largest * N),
          columns(N * largest), gradient(largest), moved(largest) {}

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
        // product = L below its diagonal of ones, with K_mm = L D L'; inverses = 1 / D
        Vec<double> log_pivots{}, pivots = fill<double>(1.0);
        for (int j = 0; j < m; ++j) {
            const Vec<double> d = at(product, j, j), pivot = d > Vec<double>{} ? d : fill<double>(NOT_A_NUMBER), inverse = 1.0 / pivot;
            store<double>(inverses + j * N, inverse);
            for (int i = m - 1; i > j; --i) {
                const Vec<double> l = at(product, i, j) * inverse;
                for (int k = j + 1; k <= i; ++k) put(product, i, k, at(product, i, k) - l * at(product, k, j));
                put(product, i, j, l);
            }
            pivots *= pivot;
            if (j % 4 == 3 || j == m - 1) {  // a logarithm for four pivots, which cannot overflow together
                log_pivots += log_of_any(pivots);
                pivots = fill<double>(1.0);
            }
        }
        store<double>(log_determinant, log_pivots);
        // root = L^-1, its diagonal of ones left out
        for (int i = 1; i < m; ++i)
            for (int j = 0; j < i; ++j) {
                Vec<double> x = -at(product, i, j);
                for (int k = j + 1; k < i; ++k) x -= at(product, i, k) * at(root, k, j);
                put(root, i, j, x);
            }
        // product = D^-1 L^-1, then K_mm^-1 = L'^-1 D^-1 L^-1, of which row i asks the rows below it
        for (int i = 0; i < m; ++i) {
            const Vec<double> inverse = load(inverses + i * N);
            for (int j = 0; j < i; ++j) put(product, i, j, at(root, i, j) * inverse);
            put(product, i, i, inverse);
        }
        for (int i = 0; i < m; ++i)
            for (int j = 0; j <= i; ++j) {
                Vec<double> x = at(product, i, j);
                for (int k = i + 1; k < m; ++k) x += at(product, k, i) * at(root, k, j);
                put(product, i, j, x);
            }
    }

    const Size* missing(int lane) const { return columns + lane * m; }
    double covariance(int i, int j, int lane) const { return product[triangle(i, j) * N + lane]; }

    // Replace the missing cells of a deviation from the mean, whatever they are, by their conditional means: those at
    // which the gradient of z'Kz, a quadratic function, vanishes.
    void complete(int lane, double* z) {
        const double* away = newton(lane, z);
        for (int i = 0; i < m; ++i) z[missing(lane)[i]] -= away[i];
    }

    // How far the missing cells of a row z are from there, its deviation being z - center: K times the center is given,
    // or null where the center is 0.
    const double* newton(int lane, const double* z, const double* K_center = nullptr) {
        const Size* column = missing(lane);
        for (int i = 0; i < m; i += 4)
            with_size(std::min(4, m - i), [&](auto size) EMKIT_INLINE { dots<decltype(size)::value>(column + i, z, gradient + i); });
        if (K_center)
            for (int i = 0; i < m; ++i) gradient[i] -= K_center[column[i]];
        for (int i = 0; i < m; ++i) {
            double x = 0.0;
            for (int j = 0; j <= i; ++j) x += covariance(i, j, lane) * gradient[j];
            for (int j = i + 1; j < m; ++j) x += covariance(j, i, lane) * gradient[j];
            moved[i] = x;
        }
        return moved;
    }

    // What a draw adds to the mean of missing cell j, of standard normal noise: (C'^-1 e)_j, with K_mm = C C'.
    double noise(int j, int lane, const double* e) const {
        double x = 0.0;
        for (int i = j; i < m; ++i) {
            const double below = i > j ? root[triangle(i, j) * N + lane] : 1.0;
            x += below * std::sqrt(inverses[i * N + lane]) * e[missing(lane)[i]];
        }
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
    Buffer<double> root, product, inverses;
    Buffer<Size> columns;
    Buffer<double> gradient, moved;
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
