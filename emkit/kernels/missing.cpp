// A multivariate normal with holes: the kernels specified in missing.py.
//
// Patterns that miss the same number of cells are solved together, one in each lane of a vector.

#include "chunks.hpp"
#include "door.hpp"

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

// Rows sorted by pattern, as both kernels receive them.
struct Holes {
    const Size* starts;  // (patterns + 1)
    const bool* missing;  // (patterns, p)
    Size patterns, p;

    int size(Size pattern) const { return int(std::count(missing + pattern * p, missing + (pattern + 1) * p, true)); }
};

// What the missing cells of up to N patterns of one size are, given the observed ones.
class Conditionals {
  public:
    // The precision's rows are padded with zeros to `stride`.
    Conditionals(const double* precision, Size stride, int largest)
        : precision(precision), stride(stride), root(triangle(largest, 0) * N), product(triangle(largest, 0) * N),
          columns(N * largest), gradient(largest) {}

    // Factor the precision of the missing cells of patterns first .. first + count.
    void factor(const Holes& holes, Size first, int count, int size) {
        m = size;
        for (int l = 0; l < N; ++l) {  // lanes without a pattern repeat the last one
            const bool* missing = holes.missing + (first + std::min(l, count - 1)) * holes.p;
            Size* column = columns + l * m;
            for (Size j = 0; j < holes.p; ++j)
                if (missing[j]) *column++ = j;
        }
        // product = L, with K_mm = L L'
        double determinant[N];
        std::fill(log_determinant, log_determinant + N, 0.0);
        Vec<double> pivots = fill<double>(1.0);
        for (int i = 0; i < m; ++i) {
            for (int j = 0; j <= i; ++j) {
                double lane[N];
                for (int l = 0; l < N; ++l) lane[l] = precision[columns[l * m + i] * stride + columns[l * m + j]];
                Vec<double> x = load(lane);
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
                store<double>(determinant, pivots);
                for (int l = 0; l < N; ++l) log_determinant[l] += 2.0 * std::log(determinant[l]);
                pivots = fill<double>(1.0);
            }
        }
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

    // Fill the holes of a deviation from the mean, which are zeros, with their conditional means.
    void complete(int lane, double* z) {
        const Size* column = missing(lane);
        for (int i = 0; i < m; ++i) gradient[i] = dot(precision + column[i] * stride, z, stride);
        for (int i = 0; i < m; ++i) {
            double x = 0.0;
            for (int j = 0; j <= i; ++j) x -= covariance(i, j, lane) * gradient[j];
            for (int j = i + 1; j < m; ++j) x -= covariance(j, i, lane) * gradient[j];
            z[column[i]] = x;
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

// Sum of outer products of rows, held in cache a chunk at a time.
class Scatter {
  public:
    explicit Scatter(Size width)
        : width(width), stride(padded(width)), capacity(std::max<Size>(16, 8192 / stride)), rows(capacity * stride),
          total(padded4(width) * stride) {}

    double* next() {
        if (used == capacity) flush();
        return rows + stride * used++;
    }

    // Lower triangle, rows `stride` apart.
    const double* finish() {
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

// The precision with rows padded by zeros.
class Padded {
  public:
    Padded(const double* matrix, Size p, Size stride) : data(p * stride) {
        for (Size i = 0; i < p; ++i) std::copy(matrix + i * p, matrix + (i + 1) * p, data + i * stride);
    }
    operator const double*() const { return data; }

  private:
    Buffer<double> data;
};

// Before the first E-step ---------------------------------------------------------------------------------------------

// Calls use(j, x) for every column of every row; contiguous rows are known to be so, and vectorised.
template <class T, class Row> void for_each_row(const Matrix& X, Row use) {
    const T* x = static_cast<const T*>(X.data());
    const Size n = X.shape(0), row = X.stride(0), column = X.stride(1);
    if (column == 1)
        for (Size i = 0; i < n; ++i) use(i, [from = x + i * row](Size j) { return double(from[j]); });
    else
        for (Size i = 0; i < n; ++i) use(i, [from = x + i * row, column](Size j) { return double(from[j * column]); });
}

template <class Call> void in_type_of(const Matrix& X, Call call) {
    if (X.dtype() == nb::dtype<double>()) call(double{});
    else if (X.dtype() == nb::dtype<float>()) call(float{});
    else throw nb::type_error("X must be float32 or float64");
}

// The door to Python --------------------------------------------------------------------------------------------------

template <class T, int DIMENSIONS> using Input = nb::ndarray<const T, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;

Holes check_holes(const Input<Size, 1>& starts, const Input<bool, 2>& missing, size_t p, size_t n_rows) {
    const size_t patterns = missing.shape(0);
    check_shape("missing", missing, {patterns, p});
    check_shape("starts", starts, {patterns + 1});
    for (size_t s = 0; s < patterns; ++s)
        if (starts.data()[s] < 0 || starts.data()[s] > starts.data()[s + 1]) throw nb::value_error("starts must not fall");
    if (starts.data()[0] < 0 || size_t(starts.data()[patterns]) > n_rows) throw nb::value_error("starts lie beyond the rows");
    return {starts.data(), missing.data(), Size(patterns), Size(p)};
}

nb::object expect_missing(const Input<double, 2>& rows, const Input<double, 1>& weight, const Input<bool, 1>& moves,
                          const Input<Size, 1>& starts, const Input<bool, 2>& missing, const Input<double, 1>& counts,
                          const Input<double, 1>& mean, const Input<double, 2>& precision) {
    const size_t n = rows.shape(0), p = rows.shape(1);
    check_shape("weight", weight, {n});
    check_shape("moves", moves, {n});
    check_shape("counts", counts, {missing.shape(0)});
    check_shape("mean", mean, {p});
    check_shape("precision", precision, {p, p});
    const Holes holes = check_holes(starts, missing, p, n);
    auto first = zeros({p}), second = zeros({p, p});
    double log_determinant = 0.0;
    {
        nb::gil_scoped_release released;
        const double *x = rows.data(), *w = weight.data(), *mu = mean.data(), *count = counts.data();
        const bool* moving = moves.data();
        double *to_first = first.data(), *to = second.data();
        const Size d = p;
        Scatter scatter(d + 1);  // the last column says whether a row moves: its products are the first moments
        const Padded K(precision.data(), d, scatter.stride);
        for_each_pattern(holes, K, scatter.stride, [&](Conditionals& conditionals, int lane, Size s) {
            const int m = conditionals.m;
            const Size* column = conditionals.missing(lane);
            log_determinant += count[s] * conditionals.log_determinant[lane];
            for (int i = 0; i < m; ++i)
                for (int j = 0; j <= i; ++j) to[column[i] * d + column[j]] += count[s] * conditionals.covariance(i, j, lane);
            for (Size r = holes.starts[s]; r < holes.starts[s + 1]; ++r) {
                double* z = scatter.next();
                const double* from = x + r * d;
                const double move = moving[r] ? 1.0 : 0.0, root = std::sqrt(w[r]);
                for (Size j = 0; j < d; ++j) z[j] = from[j] - move * mu[j];
                for (int i = 0; i < m; ++i) z[column[i]] = 0.0;
                std::fill(z + d, z + scatter.stride, 0.0);
                if (m > 0) conditionals.complete(lane, z);
                z[d] = move;
                for (Size j = 0; j <= d; ++j) z[j] *= root;
            }
        });
        const double* total = scatter.finish();
        for (Size i = 0; i < d; ++i)
            for (Size j = 0; j <= i; ++j) {
                to[i * d + j] += total[i * scatter.stride + j];
                to[j * d + i] = to[i * d + j];
            }
        std::copy(total + d * scatter.stride, total + d * scatter.stride + d, to_first);
    }
    return nb::make_tuple(log_determinant, first, second);
}

nb::object range_missing(const Matrix& X) {
    const size_t p = X.shape(1);
    auto low = zeros({p}), high = zeros({p});
    double *lowest = low.data(), *highest = high.data();
    std::fill(lowest, lowest + p, std::numeric_limits<double>::infinity());
    std::fill(highest, highest + p, -std::numeric_limits<double>::infinity());
    in_type_of(X, [&](auto zero) {
        nb::gil_scoped_release released;
        for_each_row<decltype(zero)>(X, [&](Size, auto x) {
            for (Size j = 0; j < Size(p); ++j) {
                const double v = x(j);  // a NaN is neither below nor above
                lowest[j] = v < lowest[j] ? v : lowest[j];
                highest[j] = v > highest[j] ? v : highest[j];
            }
        });
    });
    return nb::make_tuple(low, high);
}

nb::object moments_missing(const Matrix& X, const std::optional<Input<double, 1>>& weight, const Input<double, 1>& middle,
                           const Input<double, 1>& unit) {
    const size_t n = X.shape(0), p = X.shape(1);
    check_shape("middle", middle, {p});
    check_shape("unit", unit, {p});
    if (weight) check_shape("weight", *weight, {n});
    auto seen = zeros({p}), first = zeros({p}), second = zeros({p});
    in_type_of(X, [&](auto zero) {
        nb::gil_scoped_release released;
        double *count = seen.data(), *sum = first.data(), *square = second.data();
        const double *c = middle.data(), *u = unit.data(), *weights = weight ? weight->data() : nullptr;
        Buffer<double> inverse(p);
        for (size_t j = 0; j < p; ++j) inverse[j] = 1.0 / u[j];
        const double* scaling = inverse;
        for_each_row<decltype(zero)>(X, [&](Size i, auto x) {
            const double w = weights ? weights[i] : 1.0;
            for (Size j = 0; j < Size(p); ++j) {
                const double v = x(j);
                const bool observed = v == v;
                const double z = observed ? (v - c[j]) * scaling[j] : 0.0;
                count[j] += observed ? w : 0.0;
                sum[j] += w * z;
                square[j] += w * z * z;
            }
        });
    });
    return nb::make_tuple(seen, first, second);
}

void standardize_missing(const Matrix& X, const Input<Size, 1>& order, const Input<double, 1>& center,
                         const Input<double, 1>& scale, nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu> rows) {
    const size_t n = X.shape(0), p = X.shape(1), r = order.shape(0);
    check_shape("center", center, {p});
    check_shape("scale", scale, {p});
    check_shape("rows", rows, {r, p});
    for (size_t i = 0; i < r; ++i)
        if (order.data()[i] < 0 || size_t(order.data()[i]) >= n) throw nb::value_error("order names a row that X does not have");
    in_type_of(X, [&](auto zero) {
        using T = decltype(zero);
        nb::gil_scoped_release released;
        const T* x = static_cast<const T*>(X.data());
        const double *c = center.data(), *s = scale.data();
        for (size_t i = 0; i < r; ++i) {
            const T* from = x + order.data()[i] * X.stride(0);
            double* to = rows.data() + i * p;
            for (size_t j = 0; j < p; ++j) {
                const double v = from[Size(j) * X.stride(1)];
                to[j] = v == v ? (v - c[j]) / s[j] : 0.0;
            }
        }
    });
}

// Where the answers go; null where one is not wanted.
struct Answers {
    const double* noise;
    double *filled, *deviation, *distance, *log_determinant;
};

template <class T>
void infer_rows(const Holes& holes, const T* X, Size row_stride, Size column_stride, const Size* order, const double* center,
                const double* scale, const double* mean, const double* precision, const Answers& out) {
    const Size p = holes.p, stride = padded(p);
    const Padded K(precision, p, stride);
    Buffer<double> z(stride);
    for_each_pattern(holes, K, stride, [&](Conditionals& conditionals, int lane, Size s) {
        const int m = conditionals.m;
        const Size* column = conditionals.missing(lane);
        for (Size r = holes.starts[s]; r < holes.starts[s + 1]; ++r) {
            const Size row = order[r];
            const T* from = X + row * row_stride;
            for (Size j = 0; j < p; ++j) z[j] = (double(from[j * column_stride]) - center[j]) / scale[j] - mean[j];
            for (int i = 0; i < m; ++i) z[column[i]] = 0.0;
            conditionals.complete(lane, z);
            for (int i = 0; i < m; ++i) {
                const Size j = column[i], cell = row * p + j;
                if (out.filled != nullptr) {
                    double value = z[j] + mean[j];
                    if (out.noise != nullptr) value += conditionals.noise(i, lane, out.noise + row * p);
                    out.filled[cell] = value * scale[j] + center[j];
                }
                if (out.deviation != nullptr) out.deviation[cell] = std::sqrt(conditionals.covariance(i, i, lane)) * scale[j];
            }
            if (out.log_determinant != nullptr) out.log_determinant[row] = conditionals.log_determinant[lane];
            if (out.distance != nullptr) {
                double square = 0.0;
                for (Size j = 0; j < p; ++j) square += z[j] * dot(K + j * stride, z, stride);
                out.distance[row] = square;
            }
        }
    });
}

void infer_missing(const Matrix& X, const Input<Size, 1>& order, const Input<Size, 1>& starts, const Input<bool, 2>& missing,
                   const Input<double, 1>& center, const Input<double, 1>& scale, const Input<double, 1>& mean,
                   const Input<double, 2>& precision, const std::optional<Input<double, 2>>& noise,
                   const Output<double, 2>& filled, const Output<double, 2>& deviation, const Output<double, 1>& distance,
                   const Output<double, 1>& log_determinant) {
    const size_t n = X.shape(0), p = X.shape(1);
    check_shape("center", center, {p});
    check_shape("scale", scale, {p});
    check_shape("mean", mean, {p});
    check_shape("precision", precision, {p, p});
    if (noise) check_shape("noise", *noise, {n, p});
    if (filled) check_shape("filled", *filled, {n, p});
    if (deviation) check_shape("deviation", *deviation, {n, p});
    if (distance) check_shape("distance", *distance, {n});
    if (log_determinant) check_shape("log_determinant", *log_determinant, {n});
    const Holes holes = check_holes(starts, missing, p, order.shape(0));
    for (size_t r = 0; r < order.shape(0); ++r)
        if (order.data()[r] < 0 || size_t(order.data()[r]) >= n) throw nb::value_error("order names a row that X does not have");
    const auto data = [](const auto& array) { return array ? array->data() : nullptr; };
    const Answers out{data(noise), data(filled), data(deviation), data(distance), data(log_determinant)};
    in_type_of(X, [&](auto zero) {
        nb::gil_scoped_release released;
        infer_rows(holes, static_cast<const decltype(zero)*>(X.data()), X.stride(0), X.stride(1), order.data(), center.data(),
                   scale.data(), mean.data(), precision.data(), out);
    });
}

}  // namespace

void define_missing(nb::module_& module) {
    const auto strict = [](const char* argument) { return nb::arg(argument).noconvert(); };  // never a silent copy
    const auto optional = [](const char* argument) { return nb::arg(argument).noconvert().none(); };
    module.def("range_missing", &range_missing, strict("X"));
    module.def("moments_missing", &moments_missing, strict("X"), optional("weight"), strict("middle"), strict("unit"));
    module.def("standardize_missing", &standardize_missing, strict("X"), strict("order"), strict("center"), strict("scale"),
               strict("rows"));
    module.def("expect_missing", &expect_missing, strict("rows"), strict("weight"), strict("moves"), strict("starts"),
               strict("missing"), strict("counts"), strict("mean"), strict("precision"));
    module.def("infer_missing", &infer_missing, strict("X"), strict("order"), strict("starts"), strict("missing"),
               strict("center"), strict("scale"), strict("mean"), strict("precision"), optional("noise"), optional("filled"),
               optional("deviation"), optional("distance"), optional("log_determinant"));
}

}  // namespace emkit
