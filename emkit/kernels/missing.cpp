// A multivariate normal with holes: the kernels specified in missing.py.

#include "door.hpp"
#include "scatter.hpp"

#include <vector>

namespace emkit {
namespace {

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

// Deviations of rows from the mean: a column more, which is 1 for rows that move with the mean, and zeros beyond it.
//
// Whole vectors are read, beyond the end of a row too: from a copy where that is beyond the end of the data.
class Deviations {
  public:
    Deviations(const double* rows, Size n, Size d, Size width, const double* mean)
        : d(d), width(width), safe(d > 0 ? std::max<Size>(0, n + 1 - (width + d - 1) / d) : 0), rows(rows),
          last((n - safe) * d + width), inside(width), center(width) {
        std::copy(rows + safe * d, rows + n * d, last + 0);
        std::fill(inside + 0, inside + d, 1.0);
        std::copy(mean, mean + d, center + 0);
        center[d] = -1.0;
    }

    void write(Size row, double factor, bool moves, double* z) const {
        const double* from = row < safe ? rows + row * d : last + (row - safe) * d;
        const double move = moves ? factor : 0.0;
        for (Size j = 0; j < width; j += N)
            store<double>(z + j, factor * load(inside + j) * load(from + j) - move * load(center + j));
    }

  private:
    const Size d, width, safe;
    const double* rows;
    Buffer<double> last, inside, center;
};

constexpr Size LINE = 8;  // doubles of a cache line

inline void prefetch(const void* address) {
#if defined(__GNUC__)
    __builtin_prefetch(address);
#else
    (void)address;
#endif
}

// Before the first E-step ---------------------------------------------------------------------------------------------

// The user's rows as doubles, with something after each of them up to whole vectors.
template <class T> class Reader {
  public:
    explicit Reader(const Matrix& X)
        : x(static_cast<const T*>(X.data())), p(X.shape(1)), row(X.stride(0)), column(X.stride(1)), copy(padded(p)) {
        // Doubles are read where they are, as long as what follows is part of the data too.
        const Size n = X.shape(0), end = (n - 1) * row + p - padded(p);
        if (std::is_same_v<T, double> && column == 1 && row >= p && end >= 0) in_place = std::min(n, end / std::max<Size>(row, 1) + 1);
    }

    const double* operator()(Size i) {
        const T* from = x + i * row;
        if constexpr (std::is_same_v<T, double>)
            if (i < in_place) return from;
        if (column == 1)
            for (Size j = 0; j < p; ++j) copy[j] = from[j];
        else
            for (Size j = 0; j < p; ++j) copy[j] = from[j * column];
        return copy;
    }

    // Say that a row will be asked for.
    void fetch(Size i) const {
        if (column == 1)
            for (Size j = 0; j < p; j += LINE) prefetch(x + i * row + j);
    }

  private:
    const T* x;
    const Size p, row, column;
    Size in_place = 0;  // so many rows
    Buffer<double> copy;
};

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
        if (starts.data()[s] > starts.data()[s + 1]) throw nb::value_error("starts must not fall");
    if (starts.data()[0] != 0 || size_t(starts.data()[patterns]) != n_rows)
        throw nb::value_error("starts must lead from 0 to the number of rows");
    return {starts.data(), missing.data(), Size(patterns), Size(p)};
}

nb::object expect_missing(const Input<double, 2>& rows, const Input<double, 1>& weight, const Input<bool, 1>& moves,
                          const Input<Size, 1>& starts, const Input<bool, 2>& missing, const Input<double, 1>& counts,
                          const Input<double, 1>& mean, const Input<double, 2>& precision,
                          const std::optional<Input<double, 2>>& sums) {
    const size_t n = rows.shape(0), p = rows.shape(1);
    check_shape("weight", weight, {n});
    check_shape("moves", moves, {n});
    check_shape("counts", counts, {missing.shape(0)});
    check_shape("mean", mean, {p});
    check_shape("precision", precision, {p, p});
    if (sums) check_shape("sums", *sums, {p + 1, p + 1});
    const Holes holes = check_holes(starts, missing, p, n);
    auto first = zeros({p}), second = zeros({p, p});
    double log_determinant = 0.0;
    {
        nb::gil_scoped_release released;
        const double *x = rows.data(), *w = weight.data(), *mu = mean.data(), *count = counts.data();
        const bool* moving = moves.data();
        const Size d = p;
        Scatter scatter(d + 1);  // the last column says whether a row moves: its products are the first moments
        const Size stride = scatter.stride;
        const Padded K(precision.data(), d, stride);
        const Deviations deviations(x, n, d, stride, mu);
        Filled filled(d, stride);
        Buffer<double> center(stride), K_center(d), row(stride);
        std::copy(mu, mu + d, center + 0);
        for (Size i = 0; i < d; ++i) K_center[i] = dot(K + i * stride, center, stride);
        for_each_pattern(holes, K, stride, [&](Conditionals& conditionals, int lane, Size s) {
            const int m = conditionals.m;
            log_determinant += count[s] * conditionals.log_determinant[lane];
            if (m > 0) filled.spread(conditionals, lane, count[s]);
            if (m == 0 && sums) return;
            for (Size r = holes.starts[s]; r < holes.starts[s + 1]; ++r) {
                if (sums) {
                    deviations.write(r, 1.0, false, row);
                    filled.add(conditionals, lane, row, conditionals.newton(lane, row, moving[r] ? K_center + 0 : nullptr), w[r], moving[r]);
                } else {
                    double* z = scatter.next();
                    deviations.write(r, std::sqrt(w[r]), moving[r], z);
                    if (m > 0) conditionals.complete(lane, z);
                }
            }
        });
        if (sums) filled.finish(sums->data(), mu, first.data(), second.data());
        else filled.finish(scatter.finish(), stride, first.data(), second.data());
    }
    return nb::make_tuple(log_determinant, first, second);
}

nb::object range_missing(const Matrix& X) {
    const size_t p = X.shape(1);
    auto low = zeros({p}), high = zeros({p});
    in_type_of(X, [&](auto zero) {
        nb::gil_scoped_release released;
        const Size width = padded(p);
        constexpr double infinity = std::numeric_limits<double>::infinity();
        Buffer<double> lowest(width), highest(width);
        std::fill(lowest + 0, lowest + width, infinity);
        std::fill(highest + 0, highest + width, -infinity);
        double *below = lowest, *above = highest;
        Reader<decltype(zero)> rows(X);
        for (Size i = 0; i < Size(X.shape(0)); ++i) {
            const double* x = rows(i);
            for (Size j = 0; j < width; j += N) {
                const Vec<double> v = load(x + j), l = load(below + j), h = load(above + j);
                store<double>(below + j, v < l ? v : l);  // a NaN is neither below nor above
                store<double>(above + j, v > h ? v : h);
            }
        }
        std::copy(below, below + p, low.data());
        std::copy(above, above + p, high.data());
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
        const Size width = padded(p);
        const double* weights = weight ? weight->data() : nullptr;
        Buffer<double> memory(5 * width);
        double *center = memory, *inverse = center + width, *count = inverse + width, *sum = count + width, *square = sum + width;
        std::copy(middle.data(), middle.data() + p, center);
        for (size_t j = 0; j < p; ++j) inverse[j] = 1.0 / unit.data()[j];
        Reader<decltype(zero)> rows(X);
        for (size_t i = 0; i < n; ++i) {
            const double* x = rows(i);
            const Vec<double> w = fill<double>(weights ? weights[i] : 1.0);
            for (Size j = 0; j < width; j += N) {
                const Vec<double> v = load(x + j), none{}, z = v == v ? (v - load(center + j)) * load(inverse + j) : none;
                store<double>(count + j, load(count + j) + (v == v ? w : none));
                store<double>(sum + j, load(sum + j) + w * z);
                store<double>(square + j, load(square + j) + w * z * z);
            }
        }
        std::copy(count, count + p, seen.data());
        std::copy(sum, sum + p, first.data());
        std::copy(square, square + p, second.data());
    });
    return nb::make_tuple(seen, first, second);
}

void check_order(const Input<Size, 1>& order, size_t n) {
    for (size_t i = 0; i < order.shape(0); ++i)
        if (order.data()[i] < 0 || size_t(order.data()[i]) >= n) throw nb::value_error("order names a row that X does not have");
}

template <class T, int DIMENSIONS> using InPlace = nb::ndarray<T, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;

void standardize_missing(const Matrix& X, const Input<Size, 1>& order, const Input<double, 1>& center,
                         const Input<double, 1>& scale, const InPlace<double, 2>& rows) {
    check_apart({{"rows", rows}}, {{"X", X}, {"order", order}, {"center", center}, {"scale", scale}});
    const size_t p = X.shape(1), r = order.shape(0);
    check_shape("center", center, {p});
    check_shape("scale", scale, {p});
    check_shape("rows", rows, {r, p});
    check_order(order, X.shape(0));
    in_type_of(X, [&](auto zero) {
        nb::gil_scoped_release released;
        const Size width = padded(p), size = r * p;
        Buffer<double> memory(3 * width);
        double *middle = memory, *inverse = middle + width, *row = inverse + width;
        std::copy(center.data(), center.data() + p, middle);
        for (size_t j = 0; j < p; ++j) inverse[j] = 1.0 / scale.data()[j];
        Reader<decltype(zero)> reader(X);
        for (size_t i = 0; i < r; ++i) {
            const double* x = reader(order.data()[i]);
            double* end = rows.data() + i * p;
            const bool fits = Size(i * p) + width <= size;  // what is written too much, the next row will overwrite
            double* to = fits ? end : row;
            for (Size j = 0; j < width; j += N) {
                const Vec<double> v = load(x + j), none{};
                store<double>(to + j, v == v ? (v - load(middle + j)) * load(inverse + j) : none);
            }
            if (!fits) std::copy(row, row + p, end);
        }
    });
}

// Sorts rows by a digit, stably: from one order into another.
template <class Digit> void sort_by(Digit digit, Size n_digits, std::vector<Size>& order, std::vector<Size>& other) {
    std::vector<Size> begin(n_digits + 1);
    for (Size row : order) ++begin[digit(row) + 1];
    if (std::find(begin.begin(), begin.end(), Size(order.size())) != begin.end()) return;  // they are all the same
    for (Size k = 0; k < n_digits; ++k) begin[k + 1] += begin[k];
    for (Size row : order) other[begin[digit(row)]++] = row;
    order.swap(other);
}

nb::object group_missing(const Matrix& X) {
    const size_t n = X.shape(0), p = X.shape(1), n_bytes = (p + 7) / 8;
    std::vector<std::uint8_t> bits(n * n_bytes);  // which cells of a row are missing
    std::vector<Size> order(n), other(n), sizes(n), starts;
    in_type_of(X, [&](auto zero) {
        nb::gil_scoped_release released;
        const Size width = padded(p);
        Buffer<double> powers(width);  // what a missing cell adds to the byte it is a bit of
        for (size_t j = 0; j < p; ++j) powers[j] = double(1 << j % 8);
        Reader<decltype(zero)> rows(X);
        for (size_t i = 0; i < n; ++i) {
            const double* x = rows(i);
            for (size_t byte = 0; byte < n_bytes; ++byte) {
                Vec<double> total{}, none{};
                for (Size j = 8 * byte; j < std::min<Size>(8 * byte + 8, width); j += N) {
                    const Vec<double> v = load(x + j);
                    total += v == v ? none : load(powers + j);
                }
                const std::bitset<8> cells(static_cast<unsigned>(sum<double>(total)));
                bits[i * n_bytes + byte] = std::uint8_t(cells.to_ulong());
                sizes[i] += cells.count();
            }
            order[i] = i;
        }
        for (size_t byte = 0; byte < n_bytes; ++byte) sort_by([&](Size row) { return bits[row * n_bytes + byte]; }, 256, order, other);
        sort_by([&](Size row) { return sizes[row]; }, p + 1, order, other);
        for (size_t i = 0; i < n; ++i) {
            const std::uint8_t* here = bits.data() + order[i] * n_bytes;
            if (i == 0 || !std::equal(here, here + n_bytes, bits.data() + order[i - 1] * n_bytes)) starts.push_back(i);
        }
    });
    auto missing = zeros<bool>({starts.size(), p});
    for (size_t s = 0; s < starts.size(); ++s)
        for (size_t j = 0; j < p; ++j) missing.data()[s * p + j] = bits[order[starts[s]] * n_bytes + j / 8] >> (j % 8) & 1;
    starts.push_back(n);
    auto order_ = zeros<Size>({n}), starts_ = zeros<Size>({starts.size()});
    std::copy(order.begin(), order.end(), order_.data());
    std::copy(starts.begin(), starts.end(), starts_.data());
    return nb::make_tuple(order_, starts_, missing);
}

// Cholesky factor in place of the lower triangle of a matrix, rows `stride` apart; false if columns are collinear.
bool factor_in_place(double* matrix, Size size, Size stride) {
    Buffer<double> column(size), least(size);
    for (Size k = 0; k < size; ++k) least[k] = 1e-13 * matrix[k * stride + k];
    for (Size k = 0; k < size; ++k) {
        const double pivot = matrix[k * stride + k];
        if (pivot == 0.0 && least[k] == 0.0) continue;  // nothing but zeros
        if (!(pivot > least[k])) return false;
        const double root = std::sqrt(pivot);
        for (Size i = k; i < size; ++i) column[i] = matrix[i * stride + k] /= root;
        const double* from = column;
        for (Size i = k + 1; i < size; ++i) {
            double* row = matrix + i * stride;
            const double factor = from[i];
            for (Size j = k + 1; j <= i; ++j) row[j] -= factor * from[j];
        }
    }
    return true;
}

nb::object condense_missing(const InPlace<double, 2>& rows, const InPlace<double, 1>& weight, const InPlace<bool, 1>& moves,
                             const Input<Size, 1>& starts, const Input<bool, 2>& missing, const Input<double, 1>& counts,
                             double worth) {
    check_apart({{"rows", rows}, {"weight", weight}, {"moves", moves}},
                {{"starts", starts}, {"missing", missing}, {"counts", counts}});
    const size_t n = rows.shape(0), p = rows.shape(1), patterns = missing.shape(0);
    check_shape("weight", weight, {n});
    check_shape("moves", moves, {n});
    check_shape("counts", counts, {patterns});
    if (!(worth >= 1.0)) throw nb::value_error("worth must be at least 1: what stands for rows takes no more room than they");
    const Holes holes = check_holes(starts, missing, p, n);
    auto begins = zeros<Size>({patterns + 1});
    {
        nb::gil_scoped_release released;
        double *x = rows.data(), *w = weight.data();
        bool* moving = moves.data();
        Size* begin = begins.data();
        std::vector<Size> seen(p);
        Buffer<double> mean(p);
        Size used = 0;
        for (size_t s = 0; s < patterns; ++s) {
            const Size first = holes.starts[s], last = holes.starts[s + 1];
            begin[s] = used;
            const Size o = Size(p) - (double(last - first) > worth ? holes.size(s) : 0);
            if (double(last - first) > worth * double(o + 1)) {
                Size* next = seen.data();
                for (size_t j = 0; j < p; ++j)
                    if (!missing.data()[s * p + j]) *next++ = Size(j);
                std::fill(mean + 0, mean + o, 0.0);
                for (Size r = first; r < last; ++r)
                    for (Size j = 0; j < o; ++j) mean[j] += w[r] * x[r * p + seen[j]];
                for (Size j = 0; j < o; ++j) mean[j] /= counts.data()[s];
                Scatter scatter(o);
                for (Size r = first; r < last; ++r) {
                    double *z = scatter.next(), root = std::sqrt(w[r]);
                    for (Size j = 0; j < o; ++j) z[j] = root * (x[r * p + seen[j]] - mean[j]);
                }
                double* root = scatter.finish();
                if (factor_in_place(root, o, scatter.stride)) {
                    std::fill(x + used * p, x + (used + o + 1) * p, 0.0);
                    for (Size j = 0; j < o; ++j) x[used * p + seen[j]] = mean[j];
                    for (Size k = 0; k < o; ++k)
                        for (Size j = k; j < o; ++j) x[(used + 1 + k) * p + seen[j]] = root[j * scatter.stride + k];
                    std::fill(w + used, w + used + o + 1, 1.0);
                    std::fill(moving + used, moving + used + o + 1, false);
                    w[used] = counts.data()[s];
                    moving[used] = true;
                    used += o + 1;
                    continue;
                }
            }
            if (used < first) {
                std::copy(x + first * p, x + last * p, x + used * p);
                std::copy(w + first, w + last, w + used);
                std::copy(moving + first, moving + last, moving + used);
            }
            used += last - first;
        }
        begin[patterns] = used;
    }
    return nb::object(nb::cast(begins));
}

// Where the answers go; null where one is not wanted.
struct Answers {
    const double* noise;
    double *filled, *deviation, *distance, *log_determinant;
};

template <class T>
void infer_rows(const Holes& holes, const Matrix& X, const Size* order, const double* center, const double* scale,
                const double* mean, const double* precision, const Answers& out) {
    const Size p = holes.p, width = padded(p);
    const Padded K(precision, p, width);
    Reader<T> rows(X);
    Buffer<double> memory(4 * width);
    const Vec<double> far = fill<double>(Format<double>::farthest);
    double *z = memory, *middle = z + width, *inverse = middle + width, *start = inverse + width;
    std::copy(center, center + p, middle);
    std::copy(mean, mean + p, start);
    for (Size j = 0; j < p; ++j) inverse[j] = 1.0 / scale[j];
    for_each_pattern(holes, K, width, [&](Conditionals& conditionals, int lane, Size s) {
        const int m = conditionals.m;
        const Size* column = conditionals.missing(lane);
        for (Size r = holes.starts[s]; r < holes.starts[s + 1]; ++r) {
            const Size row = order[r];
            const double* x = rows(row);
            if (r + 1 < holes.starts[holes.patterns]) {  // the next is anywhere
                rows.fetch(order[r + 1]);
                if (out.filled != nullptr)
                    for (Size j = 0; j < p; j += LINE) prefetch(out.filled + order[r + 1] * p + j);
            }
            for (Size j = 0; j < width; j += N) {
                const Vec<double> v = load(x + j), i = load(inverse + j), none{}, known = v == v ? i : none;
                const Vec<double> away = (v - load(middle + j)) * i - load(start + j);
                store<double>(z + j, known > none ? (away > far ? far : away < -far ? -far : away) : none);
            }
            if (m > 0) conditionals.complete(lane, z);
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
                for (Size j = 0; j < p; ++j) square += z[j] * dot(K + j * width, z, width);
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
    check_apart({{"filled", filled}, {"deviation", deviation}, {"distance", distance}, {"log_determinant", log_determinant}},
                {{"X", X}, {"order", order}, {"starts", starts}, {"missing", missing}, {"center", center},
                 {"scale", scale}, {"mean", mean}, {"precision", precision}, {"noise", noise}});
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
    check_order(order, n);
    const auto data = [](const auto& array) { return array ? array->data() : nullptr; };
    const Answers out{data(noise), data(filled), data(deviation), data(distance), data(log_determinant)};
    in_type_of(X, [&](auto zero) {
        nb::gil_scoped_release released;
        infer_rows<decltype(zero)>(holes, X, order.data(), center.data(), scale.data(), mean.data(), precision.data(), out);
    });
}

}  // namespace

void define_missing(nb::module_& module) {
    const auto strict = [](const char* argument) { return nb::arg(argument).noconvert(); };  // never a silent copy
    const auto optional = [](const char* argument) { return nb::arg(argument).noconvert().none(); };
    module.def("range_missing", &range_missing, strict("X"));
    module.def("moments_missing", &moments_missing, strict("X"), optional("weight"), strict("middle"), strict("unit"));
    module.def("group_missing", &group_missing, strict("X"));
    module.def("condense_missing", &condense_missing, strict("rows"), strict("weight"), strict("moves"), strict("starts"),
               strict("missing"), strict("counts"), nb::arg("worth"));
    module.def("standardize_missing", &standardize_missing, strict("X"), strict("order"), strict("center"), strict("scale"),
               strict("rows"));
    module.def("expect_missing", &expect_missing, strict("rows"), strict("weight"), strict("moves"), strict("starts"),
               strict("missing"), strict("counts"), strict("mean"), strict("precision"), optional("sums"));
    module.def("infer_missing", &infer_missing, strict("X"), strict("order"), strict("starts"), strict("missing"),
               strict("center"), strict("scale"), strict("mean"), strict("precision"), optional("noise"), optional("filled"),
               optional("deviation"), optional("distance"), optional("log_determinant"));
}

}  // namespace emkit
