// What the kernels of hidden Markov chains share: sequences, transitions, rows of states.

#pragma once

#include "chunks.hpp"

#include <memory>
#include <thread>
#include <vector>

namespace emkit {
namespace {

constexpr int N = LANES<double>;
constexpr double LEAST = 1e-200;                                           // chain.py
constexpr double NEGLIGIBLE = 1e-220;                                      // beside LEAST: less than rounding
constexpr double SMALL = 0x1p-64;                                          // a sum of probabilities to be scaled
constexpr double LOWEST = std::numeric_limits<double>::lowest() / 4;       // of a row that is not impossible
constexpr double IMPOSSIBLE = -std::numeric_limits<double>::infinity();
constexpr double LOG_2 = 0.69314718055994530942;

// What all kernels are given.
struct Chain {
    Size n, K;
    const Size* lengths;
    Size count;
    const double *startprob, *transmat;

    // Calls use(s, rows before, T).
    template <class Use> void for_each(Use use) const {
        for (Size s = 0, begin = 0; s < count; begin += lengths[s++]) use(s, begin, lengths[s]);
    }
    Size longest() const { return count ? *std::max_element(lengths, lengths + count) : 0; }
};

// How the caller's matrix is read.
struct Transitions {
    const double* transmat;
    Size K;
    bool transposed;
    double operator()(Size source, Size target) const { return transposed ? transmat[target * K + source] : transmat[source * K + target]; }
};

// Multiplications of a pass through a sequence that take longer than to start a thread.
inline bool worth_a_thread(Size T, Size K) { return T * K * (K + 8) > 1 << 21; }

template <class Left, class Right> void both(bool at_once, Left left, Right right) {
    if (at_once) {
        std::thread other(right);
        left();
        other.join();
    } else {
        left();
        right();
    }
}

// What is not negligible; 0 elsewhere.
inline Vec<double> matter(Vec<double> x) { return x < fill<double>(NEGLIGIBLE) ? Vec<double>{} : x; }

// Of the rows that a recursion has gone through.
struct Scaling {
    double total = 0.0;  // of the last one
    Size exponents = 0;  // of 2, by which they were scaled
    double least = 1.0;  // before one was scaled
};

// 2^-e for the exponent e of a sum; of 0 as if it were the smallest.
inline double scale_of(double total, Scaling& scaling) {
    std::uint64_t bits;
    std::memcpy(&bits, &total, sizeof bits);
    const std::uint64_t field = bits >> 52;
    scaling.least = std::min(scaling.least, total);
    scaling.exponents += Size(field) - 1023;
    bits = (2046 - field) << 52;
    double scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return scale;
}

// to(k)[i] = from(i)[k] for i < rows, k < columns
template <class From, class To> void transpose(Size rows, Size columns, From from, To to) {
    const Size whole_rows = rows / N * N, whole_columns = columns / N * N;
    for (Size i = 0; i < whole_rows; i += N)
        for (Size k = 0; k < whole_columns; k += N) {
            Vec<double> square[N];
            EMKIT_UNROLL for (int r = 0; r < N; ++r) square[r] = load(from(i + r) + k);
            transpose_square<double>(square);
            EMKIT_UNROLL for (int r = 0; r < N; ++r) store<double>(to(k + r) + i, square[r]);
        }
    for (Size k = whole_columns; k < columns; ++k)
        for (Size i = 0; i < whole_rows; ++i) to(k)[i] = from(i)[k];
    for (Size i = whole_rows; i < rows; ++i)
        for (Size k = 0; k < columns; ++k) to(k)[i] = from(i)[k];
}

// The same of arrays whose rows are so far apart.
inline void transpose(const double* from, Size from_stride, Size rows, Size columns, double* to, Size to_stride) {
    transpose(rows, columns, [=](Size i) { return from + i * from_stride; }, [=](Size k) { return to + k * to_stride; });
}

}  // namespace
}  // namespace emkit
