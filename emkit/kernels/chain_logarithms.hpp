// The recursion in logarithms, for what is too much for probabilities.

#pragma once

#include "chain_matrices.hpp"

namespace emkit {
namespace {

using Bits = Lanes<double>::Bits;

constexpr int FEW = std::min(4, N);  // states that one vector holds, always by source

// Logarithms of the transitions by diagonals or, if there are many, by source; for each target the sources in order.
class LogTransitions {
  public:
    const Size K, stride;

    const std::vector<Size> offsets;
    const bool banded;
    const Size size;

    explicit LogTransitions(const Transitions& A)
        : K(A.K), stride(round_up(K, N)), offsets(diagonals(A)), banded(K > FEW && Size(offsets.size()) <= K / 4),
          size(stride * (banded ? Size(offsets.size()) : K)), M(size), own(stride) {
        std::fill(M + 0, M + size, IMPOSSIBLE);
        for_each([&](Size i, Size j, Size place) { M[place] = std::log(A(i, j)); });
        for (int n = 0; n < N; ++n) lane[n] = n;
        std::fill(own + 0, own + stride, IMPOSSIBLE);
        for (Size k = 0; k < K; ++k) own[k] = std::log(A(k, k));
    }

    // Calls use(source, target, place) for each transition that is kept.
    template <class Use> void for_each(Use use) const {
        if (banded) {
            for (size_t d = 0; d < offsets.size(); ++d)
                for (Size j = std::max<Size>(0, offsets[d]); j < std::min(K, K + offsets[d]); ++j)
                    use(j - offsets[d], j, Size(d) * stride + j);
        } else {
            for (Size i = 0; i < K; ++i)
                for (Size j = 0; j < K; ++j) use(i, j, i * stride + j);
        }
    }

    // Of a matrix that is not banded.
    const double* row(Size source) const { return M + source * stride; }
    const double* diagonal() const { return own; }

    // The numbers of a vector of states.
    Bits targets(Size k) const {
        Bits numbers;
        std::memcpy(&numbers, lane, sizeof numbers);
        return numbers + std::uint64_t(k);
    }

    // Calls use(w, x + M, sources, place) for W vectors of targets from k on; `stride` values around x are not NaN.
    template <int W, class Use> EMKIT_INLINE void candidates(const double* x, Size k, Use use) const {
        Size place = k;
        if (banded) {
            for (const Size o : offsets) {
                EMKIT_UNROLL for (int w = 0; w < W; ++w)
                    use(w, load(x + k + w * N - o) + load(M + place + w * N), targets(k + w * N - o), place + w * N);
                place += stride;
            }
        } else {
            for (Size i = 0; i < K; ++i, place += stride)
                EMKIT_UNROLL for (int w = 0; w < W; ++w) use(w, x[i] + load(M + place + w * N), Bits{} + std::uint64_t(i), place + w * N);
        }
    }

    // to = log sum over sources of exp(x + M)
    void product(const double* x, double* to) const {
        for (Size k = 0; k < stride; k += N) {
            Vec<double> highest = fill<double>(LOWEST), total{};
            candidates<1>(x, k, [&](int, Vec<double> candidate, Bits, Size) EMKIT_INLINE {
                highest = larger<double>(candidate, highest);
            });
            candidates<1>(x, k, [&](int, Vec<double> candidate, Bits, Size) EMKIT_INLINE {
                total += exp<double>(candidate - highest);
            });
            const Vec<double> sums = highest + log<double>(larger<double>(total, fill<double>(1.0)));
            store<double>(to + k, total > 0.0 ? sums : fill<double>(IMPOSSIBLE));
        }
    }

  private:
    Buffer<double> M, own;
    std::uint64_t lane[N];
};

// One sequence; `states` may be `log_prob`.
struct Sequence {
    const double* log_prob;  // (T, K)
    double* states;          // (T, K)
    Size T;
};

// What is too much for probabilities.
class Logarithms {
  public:
    Logarithms(const double* startprob, const double* transmat, Size K)
        : K(K), forth({transmat, K, false}), back({transmat, K, true}), stride(forth.stride), start(stride), rows(6 * stride),
          before(rows + stride), after(rows + 3 * stride), joint(rows + 5 * stride), pairs(forth.size), now(forth.size) {
        for (Size k = 0; k < K; ++k) start[k] = std::log(startprob[k]);
        std::fill(before, before + stride, IMPOSSIBLE);
        std::fill(after, after + stride, IMPOSSIBLE);
    }

    // Log-likelihood; `states` become weighted probabilities, and what was expected is added to `transitions`.
    double smooth(const Sequence& s, double weight, double* transitions) {
        double loglik = 0.0;
        for (Size t = 0; t < s.T; ++t) {
            loglik += advance(s, t);
            std::copy(before, before + K, s.states + t * K);
        }
        if (loglik == IMPOSSIBLE) {
            std::fill(s.states, s.states + s.T * K, 0.0);
            return loglik;
        }
        std::fill(pairs + 0, pairs + forth.size, 0.0);
        for (Size t = s.T - 1; t >= 0; --t) {
            const double* l = s.log_prob + t * K;
            double* state = s.states + t * K;
            std::copy(state, state + K, before);
            if (t == s.T - 1) std::fill(joint, joint + K, 0.0);
            else {
                count_pairs();
                back.product(after, joint);
            }
            for (Size k = 0; k < K; ++k)  // a state that cannot be reached is none to be relative to
                if (state[k] == IMPOSSIBLE) joint[k] = IMPOSSIBLE;
            for (Size k = 0; k < K; ++k) state[k] += joint[k];
            normalise(state);
            for (Size k = 0; k < K; ++k) state[k] = weight * std::exp(state[k]);
            see(l, after);
            normalise(after);
        }
        forth.for_each([&](Size i, Size j, Size place) { transitions[i * K + j] += weight * pairs[place]; });
        return loglik;
    }

    // Log-densities given the rows before; `states` become probabilities given the rows up to each.
    void filter(const Sequence& s, double* increments) {
        for (Size t = 0; t < s.T; ++t) {
            increments[t] = advance(s, t);
            for (Size k = 0; k < K; ++k) s.states[t * K + k] = std::exp(before[k]);
        }
    }

  private:
    // Log-density of a row given those before; `before` becomes the log-probabilities of its states given these and it.
    double advance(const Sequence& s, Size t) {
        if (t == 0) std::copy(start + 0, start + K, joint);
        else forth.product(before, joint);
        const double highest = see(s.log_prob + t * K, before);
        return highest + normalise(before);
    }

    // x = joint + l, but for the highest log-density of the states in `joint` that are possible, which is returned.
    double see(const double* l, double* x) const {
        double highest = LOWEST;
        for (Size k = 0; k < K; ++k)
            if (joint[k] > IMPOSSIBLE) highest = std::max(highest, l[k]);
        for (Size k = 0; k < K; ++k) x[k] = joint[k] + (l[k] - highest);
        return highest;
    }

    // Logarithm of the sum of exp(x), by which these become probabilities if they are possible.
    double normalise(double* x) const {
        const double highest = *std::max_element(x, x + K);
        if (highest == IMPOSSIBLE) return highest;
        double total = 0.0;
        for (Size k = 0; k < K; ++k) total += std::exp(x[k] -= highest);
        const double rest = std::log(total);
        for (Size k = 0; k < K; ++k) x[k] -= rest;
        return highest + rest;
    }

    // Transitions between the rows of `before` and `after`.
    void count_pairs() {
        Vec<double> highest = fill<double>(LOWEST), total{};
        const auto for_each = [&](auto use) EMKIT_INLINE {
            for (Size k = 0; k < stride; k += N)
                forth.candidates<1>(before, k, [&](int, Vec<double> candidate, Bits, Size place) EMKIT_INLINE {
                    use(candidate + load(after + k), place);
                });
        };
        for_each([&](Vec<double> pair, Size) EMKIT_INLINE { highest = larger<double>(pair, highest); });
        highest = fill<double>(largest(highest));
        for_each([&](Vec<double> pair, Size place) EMKIT_INLINE {
            const Vec<double> relative = exp<double>(pair - highest);
            store<double>(now + place, relative);
            total += relative;
        });
        const double share = 1.0 / sum<double>(total);
        for (Size place = 0; place < forth.size; place += N) store<double>(pairs + place, load(pairs + place) + share * load(now + place));
    }

    const Size K;
    const LogTransitions forth, back;
    const Size stride;
    Buffer<double> start, rows;            // the rows with margins for the diagonals
    double *const before, *const after, *const joint;
    Buffer<double> pairs, now;  // expected in all, and between two rows
};

}  // namespace
}  // namespace emkit
