// What a chain asks of the law of its rows, a block of rows at a time, and the laws that can answer.
//
// A block lies state by state, row i of state k at k * STRIDE + i, so that vector lanes run over rows.

#pragma once

#include "chain.hpp"
#include "gaussian.hpp"

#include <optional>

namespace emkit {
namespace {

constexpr int ROWS = 192;            // most rows of a block, whole strips of every kind
constexpr Size STRIDE = ROWS + 8;    // one cache line more, so that states do not compete for the same cache sets

// Which rows of the data stand in a block, in its order.
struct Selection {
    static constexpr Size NONE = -1;  // a place that is not taken: its probabilities are 0
    int count = 0, place = 0;         // a law remembers the rows in one of its places
    Size rows[ROWS];

    Selection() = default;
    Selection(Size begin, int count) : count(count) {
        for (int i = 0; i < count; ++i) rows[i] = begin + i;
    }
};

class Law {
  public:
    virtual ~Law() = default;

    // Before all else: of how many selections, at least, the rows are remembered at a time.
    virtual void make_room(int) {}

    // Log-densities of the rows in these states; where there is no row, and up to a whole vector, they are not NaN.
    virtual void log_densities(const Selection& rows, Range states, double* l) = 0;

    // Take in the weighted probabilities of these states; all others have none. The rows are those whose log-densities were
    // the last to be asked for in their place. What follows them is overwritten.
    virtual void add(const Selection& rows, Range states, double* resp) = 0;

    // l becomes exp(l - max l), or stays a logarithm where it is not wanted; `highest` receives max l of every row.
    void densities(const Selection& rows, Range states, Range wanted, double* l, double* highest) {
        log_densities(rows, states, l);
        double *const end = l + states.count() * STRIDE, *const first = l + wanted.first * STRIDE, *const last = l + wanted.last * STRIDE;
        if (states.count() == 2 && wanted.count() == 2) {  // the higher of two needs no exponential
            double* const other = l + STRIDE;
            for (int i = 0; i < rows.count; i += N) {
                const Vec<double> a = load(l + i), b = load(other + i), m = larger<double>(larger<double>(a, b), fill<double>(LOWEST));
                const Vec<double> e = exp<double>(smaller<double>(a, b) - m), one = fill<double>(1.0);
                store<double>(l + i, a < m ? e : one);
                store<double>(other + i, b < m ? e : one);
                store<double>(highest + i, m);
            }
            return;
        }
        for (int i = 0; i < rows.count; i += N) {
            Vec<double> m = fill<double>(LOWEST);
            for (double* state = l + i; state < end; state += STRIDE) m = larger<double>(load(state), m);
            for (double* state = first + i; state < last; state += STRIDE) store<double>(state, exp<double>(load(state) - m));
            store<double>(highest + i, m);
        }
    }

    // No row is more probable in any state, as far as is known.
    double most() const { return most_; }

  protected:
    double most_ = std::numeric_limits<double>::infinity();
};

// Log-densities that somebody has computed, and where the probabilities go.
class Given : public Law {
  public:
    Given(Size K, const double* log_prob, double* states) : K(K), log_prob(log_prob), states(states), nothing(K), nowhere(K) {}

    void log_densities(const Selection& rows, Range range, double* l) override {
        const auto from = [&](Size i) { return (rows.rows[i] < 0 ? nothing : log_prob + rows.rows[i] * K) + range.first; };
        transpose(rows.count, range.count(), from, [&](Size k) { return l + k * STRIDE; });
        for (Size k = 0; k < range.count(); ++k) std::fill(l + k * STRIDE + rows.count, l + k * STRIDE + round_up(rows.count, N), 0.0);
    }

    void add(const Selection& rows, Range range, double* resp) override {
        const auto to = [&](Size i) { return rows.rows[i] < 0 ? nowhere : states + rows.rows[i] * K; };
        if (range.count() < K)
            for (int i = 0; i < rows.count; ++i) std::fill(to(i), to(i) + K, 0.0);
        transpose(range.count(), rows.count, [&](Size k) { return resp + k * STRIDE; }, [&](Size i) { return to(i) + range.first; });
    }

  private:
    const Size K;
    const double* const log_prob;
    double* const states;
    const Buffer<double> nothing;
    Buffer<double> nowhere;
};

// Symbols of an alphabet, by their numbers; any other number is a missing one.
class Symbols : public Law {
  public:
    // `table` (m + 1, K): logarithms of the symbols' probabilities, 0 for a missing one; `counts` likewise.
    Symbols(Size K, Size m, const double* numbers, const double* table, double* counts)
        : K(K), m(m), size((m + 1) * K), numbers(numbers), table(table), counts(counts), copies(size <= SMALL ? COPIES * size : 0) {
        most_ = *std::max_element(table, table + size);
    }

    void make_room(int places) override { found.resize(std::max(found.size(), std::size_t(places * STRIDE))); }

    void log_densities(const Selection& rows, Range states, double* l) override {
        const int padded = int(round_up(rows.count, N));
        Size* const symbols = found.data() + rows.place * STRIDE;
        for (int i = 0; i < rows.count; ++i) {
            const double number = rows.rows[i] < 0 ? -1.0 : numbers[rows.rows[i]];
            symbols[i] = K * (number >= 0.0 && number < double(m) ? Size(number) : m);
        }
        std::fill(symbols + rows.count, symbols + padded, m * K);
        for (Size k = 0; k < states.count(); ++k, l += STRIDE) {
            const double* from = table + states.first + k;
            for (int i = 0; i < padded; i += N)
                EMKIT_UNROLL for (int n = 0; n < N; ++n) l[i + n] = from[symbols[i + n]];
        }
    }

    void add(const Selection& rows, Range states, double* resp) override {
        const Size* const symbols = found.data() + rows.place * STRIDE;
        const int count = rows.count;
        const bool small = size <= SMALL;
        for (Size k = 0; k < states.count(); ++k, resp += STRIDE) {
            double* to = (small ? copies + 0 : counts) + states.first + k;
            const Size apart = small ? size : 0;
            int i = 0;
            for (; i + COPIES <= count; i += COPIES)
                EMKIT_UNROLL for (int n = 0; n < COPIES; ++n) to[n * apart + symbols[i + n]] += resp[i + n];
            for (; i < count; ++i) to[symbols[i]] += resp[i];
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

    const Size K, m, size;  // of the table
    const double *const numbers, *const table;
    double* const counts;
    Buffer<double> copies;
    std::vector<Size> found;  // where the symbols of rows stand in the table
};

template <template <class> class Shape, class T> class Normal : public Law {
  public:
    Normal(const Data& data, const Arguments& arguments, double* counts)
        : data(data), shape(arguments, STRIDE), inverse_scale(data.d),
          joint(std::is_same_v<T, double> ? 0 : arguments.K * STRIDE), totals(STRIDE, data.d, shape, counts) {
        for (Size j = 0; j < data.d; ++j) inverse_scale[j] = 1.0 / data.scale[j];
        most_ = shape.constant(0);
        for (Size k = 1; k < arguments.K; ++k) most_ = std::max(most_, shape.constant(k));
    }

    void make_room(int places) override {
        if (places > n_places) z.emplace((n_places = places) * data.d * STRIDE);
    }

    void log_densities(const Selection& selection, Range states, double* l) override {
        const Rows<T> rows = remembered(selection);
        Size offsets[ROWS];
        for (int i = 0; i < selection.count; ++i) offsets[i] = std::max<Size>(selection.rows[i], 0) * data.row_stride;  // none: any
        pack<T>(data, inverse_scale, [&](int i) { return offsets[i]; }, selection.count, rows.count, standardised(selection), STRIDE);
        if constexpr (std::is_same_v<T, double>) {
            shape.log_joint(rows, l, states);
        } else {
            shape.log_joint(rows, joint, states);
            for (Size k = 0; k < states.count(); ++k) {
                const double rounding = lost<T>(shape, states.first + k);
                for (int i = 0; i < rows.count; ++i) l[k * STRIDE + i] = double(joint[k * STRIDE + i]) + rounding;
            }
        }
    }

    void add(const Selection& selection, Range states, double* resp) override {
        Rows<T> rows = remembered(selection);
        for (Size k = 0; k < states.count(); ++k) std::fill(resp + k * STRIDE + selection.count, resp + k * STRIDE + rows.count, 0.0);
        if constexpr (std::is_same_v<T, double>) {
            rows.weight = resp;
            take(rows, 1.0, states);
        } else {  // float32 holds probabilities of any weight in units
            double unit = 0.0;
            for (Size k = 0; k < states.count(); ++k)
                unit = std::max(unit, *std::max_element(resp + k * STRIDE, resp + k * STRIDE + rows.count));
            if (unit == 0.0) return;
            for (Size k = 0; k < states.count(); ++k)
                for (int i = 0; i < rows.count; ++i) joint[k * STRIDE + i] = T(resp[k * STRIDE + i] / unit);
            rows.weight = joint;
            take(rows, unit, states);
        }
    }

    void finish() { shape.finish(); }

  private:
    T* standardised(const Selection& rows) { return *z + rows.place * data.d * STRIDE; }

    Rows<T> remembered(const Selection& rows) { return {standardised(rows), nullptr, STRIDE, int(round_up(rows.count, STRIP * LANES<T>))}; }

    void take(const Rows<T>& rows, double unit, Range states) {
        totals.add(rows.z, rows.weight, rows.count, unit, states);
        shape.accumulate_all(rows, unit, states.count());
    }

    const Data data;
    Shape<T> shape;
    Buffer<double> inverse_scale;
    std::optional<Buffer<T>> z;  // rows standardised
    int n_places = 0;
    Buffer<T> joint;
    Totals<T, Shape<T>> totals;
};

}  // namespace
}  // namespace emkit
