// What the doors to Python have in common: the types of arrays that may enter, and checks of their shapes.

#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <optional>
#include <string>
#include <vector>

namespace nb = nanobind;
using namespace nb::literals;

namespace emkit {

using Lengths = std::vector<size_t>;

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

inline nb::ndarray<nb::numpy, double> zeros(const Lengths& shape) {
    size_t size = 1;
    for (size_t length : shape) size *= length;
    double* data = new double[size]();
    return {data, shape.size(), shape.data(), nb::capsule(data, [](void* p) noexcept { delete[] static_cast<double*>(p); })};
}

// One definition for each source of kernels.
void define_missing(nb::module_& module);

}  // namespace emkit
