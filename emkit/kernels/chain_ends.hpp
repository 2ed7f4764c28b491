// One long sequence, from both ends.
//
// Each direction carries the probabilities x of the rows it has seen, jointly with the state at the last of them:
//
//   p = M x ;  x <- b p        M = A' from the left, A from the right; b: densities of the row
//
// Each goes to the middle and remembers where every block began. Then each turns round: it goes back through its own
// blocks, the last first, finds x again from where the block began (or from p, kept where it is costly), and meets what comes from the other end, y:
//
//   probabilities of the states at a row    p y / s        s = sum(p y)
//   expected transitions to it              M (x' (y / s))
//
// So little more than a block is held, and the directions can run at once. Every scaling is by a power of two, which is exact;
// the exponents add up to the log-likelihood.

#pragma once

#include "chain_law.hpp"
#include "chain_matrices.hpp"

namespace emkit {
namespace {

// From one end on: what is known at the last row seen.
template <class Matrix> class Direction {
  public:
    // `first` are the probabilities before anything is seen: startprob from the left, ones from the right.
    Direction(const Transitions& A, const double* first) : M(A), step(A.transposed ? -M.stride : M.stride), first(first), row(M.stride) {}

    const Matrix M;
    const Size step;  // from a row to the next, in the order of time
    bool started = false;
    Scaling scaling;

    void begin() {
        started = false;
        scaling = {};
    }

    // To where another has come, or a block began.
    void set(const double* x) {
        started = true;
        std::copy(x, x + M.stride, row + 0);
        scaling.total = 0.0;
        for (Size k = 0; k < M.stride; ++k) scaling.total += row[k];
    }
    void set(const Direction& other) {
        if (other.started) set(other.row);
        else begin();
    }

    // Go through rows whose arrays begin at b, p and x; the row before comes to stand before them. x is 0 beyond the window.
    void run(Range window, const double* b, double* p, double* x, int count) {
        go(b, p, x, count, [&](auto... rows) { M.run(window, rows..., scaling); });
    }

    // The same, p being known.
    void replay(Range window, const double* b, double* p, double* x, int count) {
        go(b, p, x, count, [&](auto... rows) { M.replay(window, rows..., scaling); });
    }

    // The states that can be other than 0 in the next rows.
    Range window() const { return started ? M.window(row) : Range{0, M.K}; }

    // The last row seen.
    const double* last() const { return row; }

    // To where it was when it was last told to remember.
    void remember() {
        memory.started = started, memory.scaling = scaling;
        memory.row.assign(row + 0, row + M.stride);
    }
    void go_back() {
        started = memory.started, scaling = memory.scaling;
        std::copy(memory.row.begin(), memory.row.end(), row + 0);
    }

  private:
    template <class Run> void go(const double* b, double* p, double* x, int count, Run run) {
        const Size last = (count - 1) * M.stride, begin = step > 0 ? 0 : last;
        b += begin, p += begin, x += begin;
        if (started) {
            std::copy(row + 0, row + M.stride, x - step);
            run(b, p, x, step, count);
        } else {
            scaling.total = 0.0;
            for (Size k = 0; k < M.K; ++k) {
                p[k] = first[k];
                scaling.total += x[k] = first[k] * b[k];
            }
            run(b + step, p + step, x + step, step, count - 1);
            started = true;
        }
        const double* end = x + (count - 1) * step;
        std::copy(end, end + M.stride, row + 0);
    }

    const double* const first;
    Buffer<double> row;
    struct {
        bool started;
        Scaling scaling;
        std::vector<double> row;
    } memory;
};

// The rows of a sequence that one direction sees first.
template <class Matrix> class Half {
  public:
    Half(const Transitions& own, const double* first, const Transitions& other, const double* other_first, Law& law)
        : own(own, first), starts(own.K), K(own.K), left(!own.transposed), law(law), other(other, other_first),
          stride(this->own.M.stride), states(stride * STRIDE), b(memory()), p(memory()), x(memory()), q(memory()), y(memory()),
          pairs(this->own.M.size) {
        law.make_room(1);
    }

    Direction<Matrix> own;
    double highest;         // sum of the rows' highest log-densities
    bool good;              // nothing was lost
    Buffer<double> starts;  // probabilities of the first state, in the half that has it

    // Go to the middle.
    void approach(Size first_row, Size n_rows) {
        begin = first_row;
        T = n_rows;
        highest = 0.0;
        good = true;
        std::fill(pairs + 0, pairs + own.M.size, 0.0);
        own.begin();
        marks.resize((n_blocks() + 1) * stride);
        windows.resize(n_blocks());
        least.resize(n_blocks());
        if (own.M.is_costly() && T * stride > kept_size) {
            kept.reset();
            kept.reset(new double[kept_size = T * stride]);
        }
        for (Size block = 0; block < n_blocks(); ++block) {
            if (block > 0) std::copy(own.last(), own.last() + stride, marks.data() + block * stride);
            double sum = 0.0;
            own.scaling.least = 1.0;
            windows[block] = run(own, own.window(), block, p, x, cleared[0], [&](Range window) { sum = densities(block, window); });
            highest += sum;
            least[block] = own.scaling.least;
            if (kept && block < n_blocks() - 1) std::copy(at(p), at(p, size(block)), kept.get() + block * BLOCK * stride);
        }
    }

    // What has come from the other end is where it will be met.
    void meet(const Half& opposite) { other.set(opposite.own); }

    // Turn round.
    void leave(double weight) {
        for (Size block = n_blocks() - 1; block >= 0; --block) {
            own.scaling.least = other.scaling.least = 1.0;
            const Range met = run(other, other.window(), block, q, y, cleared[1], [&](Range met) { densities(block, met, met); });
            const Range shared{std::max(windows[block].first, met.first), std::min(windows[block].last, met.last)};
            good = good && shared.last > shared.first;
            if (!good) return;
            if (block < n_blocks() - 1) {
                if (block > 0) own.set(marks.data() + block * stride);
                else own.begin();
                clear_beyond(shared, x, cleared[0]);
                if (kept) {
                    const double* known = kept.get() + block * BLOCK * stride;
                    std::copy(known, known + size(block) * stride, at(p));
                    own.replay(shared, at(b), at(p), at(x), size(block));
                } else {
                    own.run(shared, at(b), at(p), at(x), size(block));
                }
            }
            least[block] = std::min(least[block], own.scaling.least);
            count(block, weight, shared);
        }
    }

    void collect(double* transitions) const {
        own.M.collect(pairs, [&](Size source, Size target, double value) {
            transitions[left ? source * K + target : target * K + source] += value;
        });
    }

  private:
    static constexpr int BLOCK = 96;

    Size memory() const { return (BLOCK + 4) * stride; }  // at either end a row more, and a margin for the diagonals
    double* at(double* rows, Size row = 0) const { return rows + (row + 2) * stride; }
    Size n_blocks() const { return (T + BLOCK - 1) / BLOCK; }
    int size(Size block) const { return int(std::min<Size>(BLOCK, T - block * BLOCK)); }
    Size first_row(Size block) const { return left ? begin + block * BLOCK : begin + T - block * BLOCK - size(block); }

    // Of the states in the window, relative to the highest of all: so that rows which none of those in the window explains
    // leave nothing of them, and logarithms are taken. Where no state can explain the rows so much better, the highest of
    // those in the window will do.
    double densities(Size block, Range window) {
        if (window.count() < K && law.most() < std::numeric_limits<double>::infinity()) {
            const auto [sum, least] = densities(block, window, window);
            if (law.most() + std::log(LEAST) < least) return sum;
        }
        return densities(block, {0, K}, window).sum;
    }

    // Of the rows' highest log-densities.
    struct Highest {
        double sum, least;
    };

    // The same, relative to the highest of some; 0 beside them.
    Highest densities(Size block, Range some, Range window) {
        const auto [first, last] = own.M.whole_vectors(window);
        double* const l = states + some.first * STRIDE;
        double highest[BLOCK], sum = 0.0;
        law.densities({first_row(block), size(block)}, some, {window.first - some.first, window.last - some.first}, l, highest);
        const Size rows = round_up(size(block), N);
        for (const Range beside : {Range{first, window.first}, Range{window.last, std::min(last, K)}})
            for (Size k = beside.first; k < beside.last; ++k) std::fill(states + k * STRIDE, states + k * STRIDE + rows, 0.0);
        transpose(states + first * STRIDE, STRIDE, last - first, rows, at(b) + first, stride);
        for (int r = 0; r < size(block); ++r) sum += highest[r];
        return {sum, *std::min_element(highest, highest + size(block))};
    }

    // Take one direction through a block; returns the window, perhaps wider than the one given, that holds all its states.
    template <class Prepare>
    Range run(Direction<Matrix>& direction, Range window, Size block, double* p, double* x, Range& cleared, Prepare prepare) {
        direction.remember();
        for (;;) {
            prepare(window);
            clear_beyond(window, x, cleared);
            direction.run(window, at(b), at(p), at(x), size(block));
            const Range wider = direction.M.wider(window, at(x), size(block));
            if (wider.first == window.first && wider.last == window.last) return window;
            window = wider;
            direction.go_back();
        }
    }

    void clear_beyond(Range window, double* x, Range& cleared) const {
        const auto [first, last] = own.M.whole_vectors(window);
        for (const Range beyond : {Range{cleared.first, std::min(first, cleared.last)}, Range{std::max(last, cleared.first), cleared.last}})
            for (Size k = beyond.first; k < beyond.last; k += N)
                for (int r = 0; r < BLOCK; ++r) store<double>(at(x, r) + k, Vec<double>{});
        cleared = {first, last};
    }

    double product(const double* a, const double* b, Range window) const {
        Vec<double> sums{};
        for (Size k = window.first; k < window.last; k += N) sums += load(a + k) * load(b + k);
        return sum<double>(sums);
    }

    double product(const double* a, const double* b, const double* c, Range window) const {
        Vec<double> sums{};
        for (Size k = window.first; k < window.last; k += N) sums += load(a + k) * load(b + k) * load(c + k);
        return sum<double>(sums);
    }

    // Probabilities of a block's states, and the transitions within it and to it. Beyond `shared` nothing is both before and
    // after a row. A direction loses what is NEGLIGIBLE of a row before that is scaled: so little, beside what both have of it.
    void count(Size block, double weight, Range shared) {
        const int rows = size(block);
        const Range reached = own.M.whole_vectors(own.M.reach(shared));
        shared = own.M.whole_vectors(shared);
        double smallest = std::numeric_limits<double>::max();
        for (int r = 0; r < rows; ++r) {
            double *probability = at(p, r), *onward = at(y, r);
            const double s = product(probability, onward, shared);
            smallest = std::min(smallest, s);
            if (s * other.scaling.least < LEAST) good &= product(probability, at(b, r), at(q, r), shared) >= LEAST;
            const double share = weight / std::max(s, LEAST);
            for (Size k = reached.first; k < reached.last; k += N) store<double>(onward + k, load(onward + k) * share);
            for (Size k = shared.first; k < shared.last; k += N)
                store<double>(probability + k, load(probability + k) * load(onward + k));
        }
        good &= smallest * least[block] >= LEAST;
        if (left && block == 0) {
            std::fill(starts + 0, starts + K, 0.0);
            std::copy(at(p) + shared.first, at(p) + std::min(shared.last, K), starts + shared.first);
        }
        // The first row that a direction sees has no transition to it. The one across the middle is left to the right half.
        const int first = block == 0;
        if (left) {
            own.M.update(reached, at(x, first - 1), at(y, first), rows - first, pairs);
        } else {
            const int across = block == n_blocks() - 1;
            if (across) {
                const double s = product(at(q), at(x), shared), share = weight / std::max(s, LEAST);
                good &= s >= LEAST;
                for (Size k = 0; k < stride; k += N) store<double>(at(y, -1) + k, load(at(y, -1) + k) * share);
            }
            own.M.update(reached, at(x, 1 - across), at(y, -across), rows - first + across, pairs);
        }
        transpose(at(p) + shared.first, stride, round_up(rows, N), shared.count(), states, STRIDE);
        law.add({first_row(block), rows}, {shared.first, std::min(shared.last, K)}, states);
    }

    const Size K;
    const bool left;
    Law& law;
    Direction<Matrix> other;
    const Size stride;
    Buffer<double> states, b, p, x, q, y, pairs;
    std::vector<double> marks;       // x before each block
    std::vector<double> least;       // sum of a row of each block before it was scaled
    std::vector<Range> windows;      // the states that each block can be in, as seen from its own end
    Range cleared[2] = {{0, 0}, {0, 0}};  // beyond this window x is 0; y
    std::unique_ptr<double[]> kept;  // p of all rows, where it is costly
    Size kept_size = 0;
    Size begin = 0, T = 0;
};

}  // namespace
}  // namespace emkit
