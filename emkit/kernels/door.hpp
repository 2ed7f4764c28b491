// The door to Python: argument types, checks of every shape, results; generic over the law whose sums are wanted.
//
// nanobind checks type, order, number of dimensions and writability; what remains to be checked is how lengths relate, and
// that what is written shares no memory with the rest. All is checked before anything is written.

#pragma once

#include "chunks.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace nb = nanobind;

namespace emkit {

using Lengths = std::vector<size_t>;

// Parameters and totals of one call, as the shapes receive them.
struct Arguments {
    Size K, d;
    const double *log_weights, *means, *covariance;  // the last is null if sums alone are wanted
    double *firsts, *seconds;                        // null if they are not wanted
};

using Matrix = nb::ndarray<nb::ro, nb::ndim<2>, nb::device::cpu>;
using Weights = std::optional<nb::ndarray<const double, nb::ndim<1>, nb::device::cpu>>;
template <int DIMENSIONS> using Parameter = nb::ndarray<const double, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;
template <class T, int DIMENSIONS>
using Output = std::optional<nb::ndarray<T, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>>;

template <class Array> void check_shape(const char* name, const Array& array, const Lengths& expected) {
    std::string wanted, given;
    bool same = true;
    for (size_t axis = 0; axis < expected.size(); ++axis) same &= array.shape(axis) == expected[axis];
    if (same) return;
    for (size_t axis = 0; axis < expected.size(); ++axis) {
        wanted += (axis ? ", " : "") + std::to_string(expected[axis]);
        given += (axis ? ", " : "") + std::to_string(array.shape(axis));
    }
    throw nb::value_error((std::string(name) + " must have shape (" + wanted + "), not (" + given + ")").c_str());
}

// The memory between the first and the last cell of an array, whatever its strides; of none, if there are no cells.
struct Extent {
    const char* name;
    std::uintptr_t begin = 0, end = 0;

    template <class Array> Extent(const char* name, const Array& array) : name(name) {
        if (array.size() == 0) return;
        const Size cell = array.itemsize();
        begin = reinterpret_cast<std::uintptr_t>(array.data());
        end = begin + cell;
        for (size_t axis = 0; axis < array.ndim(); ++axis) {
            const Size reach = Size(array.shape(axis) - 1) * array.stride(axis) * cell;
            (reach < 0 ? begin : end) += reach;
        }
    }
    template <class Array> Extent(const char* name, const std::optional<Array>& array) : name(name) {
        if (array) *this = Extent(name, *array);
    }

    void check_apart_from(const Extent& other) const {
        if (begin < other.end && other.begin < end)
            throw nb::value_error((std::string(name) + " is written and must not share memory with " + other.name).c_str());
    }
};

// What is written shares no memory with what is read, nor with what else is written.
inline void check_apart(std::initializer_list<Extent> written, std::initializer_list<Extent> read) {
    for (auto one = written.begin(); one != written.end(); ++one) {
        for (const Extent& other : read) one->check_apart_from(other);
        for (auto other = written.begin(); other != one; ++other) one->check_apart_from(*other);
    }
}

template <class T = double> nb::ndarray<nb::numpy, T> zeros(const Lengths& shape) {
    size_t size = 1;
    for (size_t length : shape) size *= length;
    T* data = new T[size]();
    return {data, shape.size(), shape.data(), nb::capsule(data, [](void* p) noexcept { delete[] static_cast<T*>(p); })};
}

template <template <class> class Law> struct Door {
    using Covariance = Parameter<Law<double>::DIMENSIONS>;

    // Every relation between the arguments that the loops rely on.
    static Data check(const Matrix& X, const Weights& weight, const Parameter<1>& center, const Parameter<1>& scale,
                      const Parameter<2>& means) {
        if (X.dtype() != nb::dtype<double>() && X.dtype() != nb::dtype<float>())
            throw nb::type_error("X must be float32 or float64");
        const size_t n = X.shape(0), d = X.shape(1), K = means.shape(0);
        if (d == 0 || K == 0) throw nb::value_error("at least one column and one component are needed");
        check_shape("means", means, {K, d});
        check_shape("center", center, {d});
        check_shape("scale", scale, {d});
        if (weight) check_shape("weight", *weight, {n});
        return {X.data(), Size(n), Size(d), X.stride(0), X.stride(1), weight ? weight->data() : nullptr,
                weight ? weight->stride(0) : 0, center.data(), scale.data()};
    }

    static void check_law(const Parameter<1>& log_weights, const Parameter<2>& means, const Covariance& covariance) {
        const size_t K = means.shape(0), d = means.shape(1);
        check_shape("log_weights", log_weights, {K});
        check_shape(Law<double>::COVARIANCE, covariance, Law<double>::covariance_shape(K, d));
    }

    template <class Call> static void in_precision_of(const Matrix& X, Call call) {
        nb::gil_scoped_release released;
        if (X.dtype() == nb::dtype<double>()) call(double{});
        else call(float{});
    }

    static nb::object expect(const Matrix& X, const Weights& weight, const Parameter<1>& center, const Parameter<1>& scale,
                             const Parameter<1>& log_weights, const Parameter<2>& means, const Covariance& covariance) {
        const Data data = check(X, weight, center, scale, means);
        check_law(log_weights, means, covariance);
        const size_t K = means.shape(0), d = data.d;
        const Lengths seconds_shape = Law<double>::seconds_shape(K, d);
        auto counts = zeros({K}), firsts = zeros({K, d}), seconds = zeros(seconds_shape);
        const Arguments arguments{Size(K), Size(d), log_weights.data(), means.data(), covariance.data(), firsts.data(),
                                  seconds_shape.empty() ? nullptr : seconds.data()};
        double loglik = 0.0;
        in_precision_of(X, [&](auto zero) {
            using T = decltype(zero);
            Law<T> law(arguments, Plan<T>(data.n, d, K).stride);
            loglik = emkit::expect<T>(data, K, law, counts.data());
            law.finish();
        });
        if (seconds_shape.empty()) return nb::make_tuple(loglik, counts, firsts);
        return nb::make_tuple(loglik, counts, firsts, seconds);
    }

    static void infer(const Matrix& X, const Parameter<1>& center, const Parameter<1>& scale, const Parameter<1>& log_weights,
                      const Parameter<2>& means, const Covariance& covariance, const Output<double, 1>& log_density,
                      const Output<double, 2>& responsibilities, const Output<Size, 1>& labels) {
        check_apart({{"log_density", log_density}, {"responsibilities", responsibilities}, {"labels", labels}},
                    {{"X", X}, {"center", center}, {"scale", scale}, {"log_weights", log_weights},
                     {"means", means}, {Law<double>::COVARIANCE, covariance}});
        const Data data = check(X, std::nullopt, center, scale, means);
        check_law(log_weights, means, covariance);
        const size_t n = data.n, K = means.shape(0);
        if (log_density) check_shape("log_density", *log_density, {n});
        if (responsibilities) check_shape("responsibilities", *responsibilities, {n, K});
        if (labels) check_shape("labels", *labels, {n});
        const Posterior out{log_density ? log_density->data() : nullptr, responsibilities ? responsibilities->data() : nullptr,
                            labels ? labels->data() : nullptr};
        const Arguments arguments{Size(K), data.d, log_weights.data(), means.data(), covariance.data(), nullptr, nullptr};
        in_precision_of(X, [&](auto zero) {
            using T = decltype(zero);
            Law<T> law(arguments, Plan<T>(data.n, data.d, K).stride);
            emkit::infer<T>(data, K, law, out);
        });
    }

    static void log_prob(const Matrix& X, const Parameter<1>& center, const Parameter<1>& scale, const Parameter<2>& means,
                         const Covariance& covariance, const nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu>& out) {
        check_apart({{"out", out}}, {{"X", X}, {"center", center}, {"scale", scale}, {"means", means},
                                     {Law<double>::COVARIANCE, covariance}});
        const Data data = check(X, std::nullopt, center, scale, means);
        const size_t K = means.shape(0), d = data.d;
        check_shape(Law<double>::COVARIANCE, covariance, Law<double>::covariance_shape(K, d));
        check_shape("out", out, {size_t(data.n), K});
        const std::vector<double> log_weights(K);
        const Arguments arguments{Size(K), Size(d), log_weights.data(), means.data(), covariance.data(), nullptr, nullptr};
        in_precision_of(X, [&](auto zero) {
            using T = decltype(zero);
            Law<T> law(arguments, Plan<T>(data.n, d, K).stride);
            emkit::log_prob<T>(data, K, law, out.data());
        });
    }

    static nb::object summarize(const Matrix& X, const Parameter<1>& center, const Parameter<1>& scale, const Parameter<2>& means,
                                const Parameter<2>& resp) {
        const Data data = check(X, std::nullopt, center, scale, means);
        const size_t K = means.shape(0), d = data.d;
        check_shape("resp", resp, {size_t(data.n), K});
        const Lengths own = Law<double>::seconds_shape(K, d);
        auto counts = zeros({K}), firsts = zeros({K, d}), seconds = zeros(own.empty() ? Lengths{d, d} : own);
        const Arguments arguments{Size(K), Size(d), nullptr, means.data(), nullptr, firsts.data(), seconds.data()};
        in_precision_of(X, [&](auto zero) {
            using T = decltype(zero);
            Law<T> law(arguments, Plan<T>(data.n, d, K).stride);
            emkit::summarize<T>(data, K, law, resp.data(), counts.data());
            law.finish();
        });
        return nb::make_tuple(counts, firsts, seconds);
    }

    // Of the name "full": expect_full, infer_full, log_prob_full, summarize_full; likewise expect_tied, infer_tied, log_prob_tied,
    // summarize_tied; expect_diag, infer_diag, log_prob_diag, summarize_diag; expect_spherical, infer_spherical, log_prob_spherical,
    // summarize_spherical.
    static void define(nb::module_& module, const std::string& name) {
        const auto strict = [](const char* argument) { return nb::arg(argument).noconvert(); };  // never a silent copy
        const auto optional = [](const char* argument) { return nb::arg(argument).noconvert().none(); };
        module.def(("expect_" + name).c_str(), &expect, strict("X"), optional("weight"), strict("center"), strict("scale"),
                   strict("log_weights"), strict("means"), strict(Law<double>::COVARIANCE));
        module.def(("infer_" + name).c_str(), &infer, strict("X"), strict("center"), strict("scale"), strict("log_weights"),
                   strict("means"), strict(Law<double>::COVARIANCE), optional("log_density"), optional("responsibilities"),
                   optional("labels"));
        module.def(("log_prob_" + name).c_str(), &log_prob, strict("X"), strict("center"), strict("scale"), strict("means"),
                   strict(Law<double>::COVARIANCE), strict("out"));
        module.def(("summarize_" + name).c_str(), &summarize, strict("X"), strict("center"), strict("scale"), strict("means"),
                   strict("resp"));
    }
};

// The x86-64 level of this processor: 2, 3 or 4; 0 on others.
inline int processor_level() {
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2")) return 2;
    for (bool has : {__builtin_cpu_supports("avx512f") != 0, __builtin_cpu_supports("avx512bw") != 0,
                     __builtin_cpu_supports("avx512cd") != 0, __builtin_cpu_supports("avx512dq") != 0,
                     __builtin_cpu_supports("avx512vl") != 0})
        if (!has) return 3;
    return 4;
#else
    return 0;
#endif
}

// The other sources of kernels, each with its own definitions.
void define_missing(nb::module_& module);
void define_chain(nb::module_& module);

}  // namespace emkit
