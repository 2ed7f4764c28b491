// What a chain asks of the law of its rows, a block of rows at a time, and the laws that can answer.
//
// A block lies state by state, row i of state k at k * STRIDE + i, so that vector lanes run over rows.

#pragma once

#include "chain.hpp"
#include "gaussian.hpp"

namespace emkit {
namespace {

constexpr int ROWS = 192;            // most rows of a block, whole strips of every kind
constexpr Size STRIDE = ROWS + 8;    // one cache line more, so that states do not compete for the same cache sets

class Law {
  public:
    virtual ~Law() = default;

    // Log-densities of rows from `begin` on in these states; up to a whole vector of rows, what follows is not NaN.
    virtual void log_densities(Size begin, int count, Range states, double* l) = 0;

    // Take in the weighted probabilities of these states; all others have none. What follows the rows is overwritten.
    virtual void add(Size begin, int count, Range states, double* resp) = 0;

    // Of the rows' highest log-densities: their sum, and a bound that none is below.
    struct Highest {
        double sum, least;
    };

    // l becomes exp(l - max l), or stays a logarithm where it is not wanted.
    Highest densities(Size begin, int count, Range states, Range wanted, double* l) {
        log_densities(begin, count, states, l);
        double highest[ROWS];
        Vec<double> least = fill<double>(std::numeric_limits<double>::max());
        double *const end = l + states.count() * STRIDE, *const first = l + wanted.first * STRIDE, *const last = l + wanted.last * STRIDE;
        for (int i = 0; i < count; i += N) {
            Vec<double> m = fill<double>(LOWEST);
            for (double* state = l + i; state < end; state += STRIDE) m = larger<double>(load(state), m);
            for (double* state = first + i; state < last; state += STRIDE) store<double>(state, exp<double>(load(state) - m));
            store<double>(highest + i, m);
            least = m < least ? m : least;
        }
        const int whole = int(round_up(count, N));
        std::fill(highest + count, highest + whole, 0.0);
        return {double_sum<double>(highest, whole), -largest(-least)};
    }
    Highest densities(Size begin, int count, Range states, double* l) { return densities(begin, count, states, {0, states.count()}, l); }

    // No row is more probable in any state, as far as is known.
    double most() const { return most_; }

  protected:
    double most_ = std::numeric_limits<double>::infinity();
};

// Log-densities that somebody has computed, and where the probabilities go.
class Given : public Law {
  public:
    Given(Size K, const double* log_prob, double* states) : K(K), log_prob(log_prob), states(states) {}

    void log_densities(Size begin, int count, Range range, double* l) override {
        transpose(log_prob + begin * K + range.first, K, count, range.count(), l, STRIDE);
        for (Size k = 0; k < range.count(); ++k) std::fill(l + k * STRIDE + count, l + k * STRIDE + round_up(count, N), 0.0);
    }

    void add(Size begin, int count, Range range, double* resp) override {
        double* const to = states + begin * K;
        if (range.count() < K) std::fill(to, to + count * K, 0.0);
        transpose(resp, STRIDE, range.count(), count, to + range.first, K);
    }

  private:
    const Size K;
    const double* const log_prob;
    double* const states;
};

// Symbols of an alphabet, by their numbers; any other number is a missing one.
class Symbols : public Law {
  public:
    // `table` (m + 1, K): logarithms of the symbols' probabilities, 0 for a missing one; `counts` likewise.
    Symbols(Size K, Size m, const double* numbers, const double* table, double* counts)
        : K(K), m(m), size((m + 1) * K), numbers(numbers), table(table), counts(counts), copies(size <= SMALL ? COPIES * size : 0) {
        most_ = *std::max_element(table, table + size);
    }

    void log_densities(Size begin, int count, Range states, double* l) override {
        const int padded = int(round_up(count, N));
        find(begin, count);
        std::fill(places + count, places + padded, m * K);
        for (Size k = 0; k < states.count(); ++k, l += STRIDE) {
            const double* from = table + states.first + k;
            for (int i = 0; i < padded; i += N)
                EMKIT_UNROLL for (int n = 0; n < N; ++n) l[i + n] = from[places[i + n]];
        }
    }

    void add(Size begin, int count, Range states, double* resp) override {
        find(begin, count);
        const bool small = size <= SMALL;
        for (Size k = 0; k < states.count(); ++k, resp += STRIDE) {
            double* to = (small ? copies + 0 : counts) + states.first + k;
            const Size apart = small ? size : 0;
            int i = 0;
            for (; i + COPIES <= count; i += COPIES)
                EMKIT_UNROLL for (int n = 0; n < COPIES; ++n) to[n * apart + places[i + n]] += resp[i + n];
            for (; i < count; ++i) to[places[i]] += resp[i];
        }
    }

    // After the last row.
    void finish() {
        for (int n = 0; n < COPIES && size <= SMALL; ++n)
            for (Size place = 0; place < size; ++place) counts[place] += copies[n * size + place];
    }

  private:
    // Small tables are counted in copies, so that no sum waits for that of the row before.
    static constexpr int COPIES = 4, SMALL = 1024;

    // Where the symbols of rows stand in the table.
    void find(Size begin, int count) {
        for (int i = 0; i < count; ++i) {
            const double number = numbers[begin + i];
            places[i] = K * (number >= 0.0 && number < double(m) ? Size(number) : m);
        }
    }

    const Size K, m, size;  // of the table
    const double *const numbers, *const table;
    double* const counts;
    Buffer<double> copies;
    Size places[STRIDE];
};

template <template <class> class Shape, class T> class Normal : public Law {
  public:
    Normal(const Data& data, const Arguments& arguments, double* counts)
        : data(data), shape(arguments, STRIDE), inverse_scale(data.d), z(data.d * STRIDE), joint(arguments.K * STRIDE),
          totals(STRIDE, data.d, shape, counts) {
        for (Size j = 0; j < data.d; ++j) inverse_scale[j] = 1.0 / data.scale[j];
        most_ = shape.constant(0);
        for (Size k = 1; k < arguments.K; ++k) most_ = std::max(most_, shape.constant(k));
    }

    void log_densities(Size begin, int count, Range states, double* l) override {
        fetch(begin, count);
        const Rows<T> rows{z, nullptr, STRIDE, padded};
        if constexpr (std::is_same_v<T, double>) {
            shape.log_joint(rows, l, states);
        } else {
            shape.log_joint(rows, joint, states);
            for (Size k = 0; k < states.count(); ++k) {
                const double rounding = lost<T>(shape, states.first + k);
                for (int i = 0; i < padded; ++i) l[k * STRIDE + i] = double(joint[k * STRIDE + i]) + rounding;
            }
        }
    }

    void add(Size begin, int count, Range states, double* resp) override {
        fetch(begin, count);
        for (Size k = 0; k < states.count(); ++k) std::fill(resp + k * STRIDE + count, resp + k * STRIDE + padded, 0.0);
        if constexpr (std::is_same_v<T, double>) {
            take(resp, 1.0, states);
        } else {  // float32 holds probabilities of any weight in units
            double unit = 0.0;
            for (Size k = 0; k < states.count(); ++k)
                unit = std::max(unit, *std::max_element(resp + k * STRIDE, resp + k * STRIDE + padded));
            if (unit == 0.0) return;
            for (Size k = 0; k < states.count(); ++k)
                for (int i = 0; i < padded; ++i) joint[k * STRIDE + i] = T(resp[k * STRIDE + i] / unit);
            take(joint, unit, states);
        }
    }

    void finish() { shape.finish(); }

  private:
    // Standardise rows, unless they are those of the last call.
    void fetch(Size begin, int count) {
        if (begin == held && count == n_held) return;
        held = begin;
        n_held = count;
        padded = int(round_up(count, STRIP * LANES<T>));
        pack<T>(data, inverse_scale, begin, count, padded, z, STRIDE);
    }

    void take(const T* resp, double unit, Range states) {
        totals.add(z, resp, padded, unit, states);
        shape.accumulate_all(Rows<T>{z, resp, STRIDE, padded}, unit, states.count());
    }

    const Data data;
    Shape<T> shape;
    Buffer<double> inverse_scale;
    Buffer<T> z, joint;
    Totals<T, Shape<T>> totals;
    Size held = -1;
    int n_held = 0, padded = 0;
};

}  // namespace
}  // namespace emkit
