// All sequences of a chain: which way of going through each suits it.

#pragma once

#include "chain_ends.hpp"
#include "chain_lanes.hpp"
#include "chain_logarithms.hpp"

#include <functional>
#include <optional>

namespace emkit {
namespace {

constexpr Size MOST_CUT = 4;        // states of a sequence cut into pieces
constexpr Size SHORT = 1024;        // rows of a sequence not worth cutting

// Calls use(type), with the kind of matrix that suits these transitions.
template <class Matrix> struct Type {
    using type = Matrix;
};
template <class Use> void with_matrix(const Transitions& A, Use use) {
    if (A.K >= 2 * N && Size(diagonals(A).size()) <= A.K / 4) use(Type<Band>{});
    else use(Type<Dense>{});
}

// What is wanted of the sequences.
struct Wanted {
    const double* weights;  // or null: every sequence counts once
    double *logliks, *starts, *transitions;
    int n_threads;
};

// The log-densities and states from which a sequence can be done again; null where there are none.
struct Kept {
    const double* log_prob;
    double* states;
};

template <class Matrix> class Smoother {
  public:
    // `another` law is asked for where two threads can work at once.
    Smoother(const Chain& chain, const Wanted& wanted, const Kept& kept, Law& one, const std::function<Law&()>& another)
        : chain(chain), K(chain.K), wanted(wanted), kept(kept), laws{&one, nullptr}, another(another), ones(K, 1.0) {}

    // False if probabilities were not enough for a sequence of which nothing is kept.
    bool smooth() {
        std::vector<Job> jobs(chain.count);
        chain.for_each([&](Size s, Size begin, Size T) { jobs[s] = {s, {begin, T, wanted.weights ? wanted.weights[s] : 1.0}}; });
        std::stable_sort(jobs.begin(), jobs.end(), [](const Job& a, const Job& b) { return a.rows.T > b.rows.T; });
        std::vector<Group> side_by_side;
        for (auto job = jobs.begin(); job < jobs.end() && !lost;) {
            const auto end = job + std::min<Size>(N, jobs.end() - job);
            Size rows = 0;
            for (auto other = job; other < end; ++other) rows += other->rows.T;
            const bool few = K <= MOST_CUT && job->rows.T <= SHORT;
            if (K <= MOST_TOGETHER && (few || 2 * rows >= N * job->rows.T)) {
                side_by_side.push_back({&*job, int(end - job)});
                job = end;
            } else {
                if (K <= MOST_CUT) cut(*job);
                else alone(*job);
                ++job;
            }
        }
        if (!lost) go_through(side_by_side);
        return !lost;
    }

  private:
    struct Job {
        Size s;
        Lane rows;
    };

    // At most N sequences, the longest first.
    struct Group {
        const Job* jobs;
        int count;
    };

    // Two threads if that is worth it.
    template <class Left, class Right> void both(Size T, Left left, Right right) const {
        const auto flushed = [](auto work) {
            return [=] {
                const SubnormalsAreZero here;
                work();
            };
        };
        emkit::both(wanted.n_threads > 1 && worth_a_thread(T, K), flushed(left), flushed(right));
    }

    Law& law(int worker) {
        if (!laws[worker]) laws[worker] = &another();
        return *laws[worker];
    }

    void rescue(const Job& job) {
        if (kept.log_prob == nullptr) {
            lost = true;
            return;
        }
        if (!logarithms) logarithms.emplace(chain.startprob, chain.transmat, K);
        double* const states = kept.states + job.rows.begin * K;
        const Sequence sequence{kept.log_prob + job.rows.begin * K, states, job.rows.T};
        wanted.logliks[job.s] = logarithms->smooth(sequence, job.rows.weight, wanted.transitions);
        for (Size k = 0; k < K; ++k) wanted.starts[k] += states[k];
    }

    void alone(const Job& job) {
        const Transitions forth{chain.transmat, K, false}, back{chain.transmat, K, true};
        if (!left) {
            left.emplace(forth, chain.startprob, back, ones.data(), law(0));
            right.emplace(back, ones.data(), forth, chain.startprob, law(1));
        }
        const auto [begin, T, weight] = job.rows;
        const Size middle = std::max<Size>(1, T / 2);
        both(T, [&, begin = begin] { left->approach(begin, middle); },
             [&, begin = begin, T = T] { right->approach(begin + middle, T - middle); });
        const double meeting = where_they_meet(T);
        const Size exponents = left->own.scaling.exponents + right->own.scaling.exponents;
        const double loglik = left->highest + right->highest + LOG_2 * double(exponents) + std::log(meeting);
        left->meet(*right);
        right->meet(*left);
        both(T, [&, weight = weight] { left->leave(weight); }, [&, weight = weight] { right->leave(weight); });
        if (!left->good || !right->good || meeting < LEAST) return rescue(job);
        wanted.logliks[job.s] = loglik;
        left->collect(wanted.transitions);
        right->collect(wanted.transitions);
        for (Size k = 0; k < K; ++k) wanted.starts[k] += left->starts[k];
    }

    double where_they_meet(Size T) const {
        if (T == 1) return left->own.scaling.total;
        const double *before = left->own.last(), *after = right->own.last();
        double total = 0.0;
        for (Size i = 0; i < K; ++i) {
            if (before[i] == 0.0) continue;
            double next = 0.0;
            for (Size j = 0; j < K; ++j) next += chain.transmat[i * K + j] * after[j];
            total += before[i] * next;
        }
        return total;
    }

    Together& group(int worker) {
        const Size most = K <= MOST_CUT ? std::min(chain.longest(), SHORT) : chain.longest();
        if (!groups[worker]) groups[worker].emplace(chain.transmat, K, most, law(worker));
        return *groups[worker];
    }

    // Memory before a thread begins, which would have to ask the system for it.
    void make_room(bool for_two) {
        group(0);
        if (for_two) group(1);
    }

    // Half of the work for each of two threads, with sums of its own, if that is worth it; what probabilities were not enough
    // for comes after.
    void go_through(const std::vector<Group>& some) {
        if (some.empty()) return;
        Size rows = 0, before = 0, half = 0;
        for (const Group& group : some) rows += N * group.jobs->rows.T;
        const Size share = worth_a_thread(rows, K) ? (rows + 1) / 2 : rows;
        while (before < share) before += N * some[half++].jobs->rows.T;
        struct Part {
            std::vector<double> starts, transitions;
            std::vector<const Job*> lost;
            explicit Part(Size K) : starts(K), transitions(K * K) {}
        } parts[2] = {Part(K), Part(K)};
        const auto work = [&](int worker, Size first, Size last) {
            Part& part = parts[worker];
            for (Size g = first; g < last; ++g) together(worker, some[g], part);
        };
        make_room(half < Size(some.size()));
        both(rows, [&] { work(0, 0, half); }, [&] { work(1, half, Size(some.size())); });
        for (const Part& part : parts) {
            for (Size k = 0; k < K; ++k) wanted.starts[k] += part.starts[k];
            for (Size i = 0; i < K * K; ++i) wanted.transitions[i] += part.transitions[i];
            for (const Job* job : part.lost) rescue(*job);
        }
    }

    template <class Part> void together(int worker, const Group& some, Part& part) {
        Together& lanes = group(worker);
        for (int n = 0; n < N; ++n) {
            lanes.lanes[n] = n < some.count ? some.jobs[n].rows : Lane{};
            for (Size k = 0; k < K; ++k) {
                lanes.first[k * N + n] = chain.startprob[k];
                lanes.last[k * N + n] = 1.0;
            }
        }
        lanes.smooth();
        for (int n = 0; n < some.count; ++n) {
            const Job& job = some.jobs[n];
            if (!lanes.good(n)) {
                part.lost.push_back(&job);
                continue;
            }
            wanted.logliks[job.s] = lanes.loglik(n);
            lanes.collect(n, part.transitions.data());
            for (Size k = 0; k < K; ++k) part.starts[k] += lanes.starts[k * N + n];
        }
    }

    // What is known of a piece of a sequence.
    struct Piece {
        double products[MOST_CUT * MOST_CUT];  // for each first state: probabilities of the rows and of the last state
        double before[MOST_CUT];               // probabilities of the first state given the rows of the pieces before
        double after[MOST_CUT];                // probability of the rows of the pieces after, for each last state
        double begins[MOST_CUT], ends[MOST_CUT];  // see Together
        double loglik;
        bool good;
    };

    // In pieces, a block of rows each: what precedes and what follows each is known from products of matrices.
    void cut(const Job& job) {
        const auto [begin, T, weight] = job.rows;
        const Size n_groups = (T + N * ROWS - 1) / (N * ROWS), half = (n_groups + 1) / 2, count = n_groups * N;
        std::vector<Piece> pieces(count);
        std::vector<double> transitions[2] = {std::vector<double>(K * K), std::vector<double>(K * K)};
        const auto lanes_of = [&, begin = begin, T = T, weight = weight](Together& lanes, Size g) {
            for (Size n = 0; n < N; ++n) {
                const Size p = g * N + n, first = p * T / count;
                lanes.lanes[n] = {begin + first, (p + 1) * T / count - first, weight};
            }
        };
        const auto multiply_out = [&](int worker, Size first, Size last) {
            Together& lanes = group(worker);
            for (Size g = first; g < last; ++g) {
                lanes_of(lanes, g);
                lanes.multiply_out();
                for (int n = 0; n < N; ++n) keep_product(lanes, n, pieces[g * N + n]);
            }
        };
        const auto smooth = [&](int worker, Size first, Size last) {
            Together& lanes = group(worker);
            for (Size g = first; g < last; ++g) {
                lanes_of(lanes, g);
                for (int n = 0; n < N; ++n)
                    for (Size k = 0; k < K; ++k) {
                        lanes.first[k * N + n] = pieces[g * N + n].before[k];
                        lanes.last[k * N + n] = pieces[g * N + n].after[k];
                    }
                lanes.smooth();
                for (int n = 0; n < N; ++n) {
                    Piece& piece = pieces[g * N + n];
                    piece.good = lanes.good(n);
                    piece.loglik = lanes.loglik(n);
                    lanes.collect(n, transitions[worker].data());
                    for (Size k = 0; k < K; ++k) {
                        piece.begins[k] = lanes.begins[k * N + n];
                        piece.ends[k] = lanes.ends[k * N + n];
                        if (g == 0 && n == 0) starts[k] = lanes.starts[k * N];
                    }
                }
            }
        };
        make_room(half < n_groups);
        both(T, [&] { multiply_out(0, 0, half); }, [&, n_groups = n_groups] { multiply_out(1, half, n_groups); });
        bool good = connect(pieces);
        if (good) both(T, [&] { smooth(0, 0, half); }, [&, n_groups = n_groups] { smooth(1, half, n_groups); });
        double loglik = 0.0;
        for (const Piece& piece : pieces) {
            good = good && piece.good;
            loglik += piece.loglik;
        }
        if (!good) return rescue(job);
        for (Size p = 1; p < count; ++p) count_between(pieces[p - 1], pieces[p], weight, transitions[1].data());
        for (Size i = 0; i < K * K; ++i) wanted.transitions[i] += transitions[0][i] + transitions[1][i];
        for (Size k = 0; k < K; ++k) wanted.starts[k] += starts[k];
        wanted.logliks[job.s] = loglik;
    }

    // Relative to the largest power.
    void keep_product(const Together& lanes, int n, Piece& piece) const {
        double highest = lanes.powers[n];
        for (Size i = 1; i < K; ++i) highest = std::max(highest, lanes.powers[i * N + n]);
        for (Size i = 0; i < K; ++i) {
            const double power = std::exp2(lanes.powers[i * N + n] - highest);
            for (Size k = 0; k < K; ++k) piece.products[i * K + k] = power * lanes.products[(i * K + k) * N + n];
        }
    }

    // Where the pieces begin, from the first to the last; what follows them, from the last to the first. False if too
    // little is left to go on.
    bool connect(std::vector<Piece>& pieces) const {
        bool good = true;
        double next[MOST_CUT];
        std::copy(chain.startprob, chain.startprob + K, pieces[0].before);
        for (size_t p = 0; p + 1 < pieces.size(); ++p) {
            std::fill(next, next + K, 0.0);
            for (Size i = 0; i < K; ++i)
                for (Size k = 0; k < K; ++k) next[k] += pieces[p].before[i] * pieces[p].products[i * K + k];
            good &= normalise(next);
            double* before = pieces[p + 1].before;
            std::fill(before, before + K, 0.0);
            for (Size i = 0; i < K; ++i)
                for (Size j = 0; j < K; ++j) before[j] += next[i] * chain.transmat[i * K + j];
        }
        std::fill(pieces.back().after, pieces.back().after + K, 1.0);
        for (size_t p = pieces.size() - 1; p > 0; --p) {
            std::fill(next, next + K, 0.0);
            for (Size i = 0; i < K; ++i)
                for (Size k = 0; k < K; ++k) next[i] += pieces[p].products[i * K + k] * pieces[p].after[k];
            good &= normalise(next);
            double* after = pieces[p - 1].after;
            std::fill(after, after + K, 0.0);
            for (Size i = 0; i < K; ++i)
                for (Size j = 0; j < K; ++j) after[i] += chain.transmat[i * K + j] * next[j];
        }
        return good;
    }

    bool normalise(double* x) const {
        double total = 0.0;
        for (Size k = 0; k < K; ++k) total += x[k];
        for (Size k = 0; k < K; ++k) x[k] /= std::max(total, LEAST);
        return total >= LEAST;
    }

    // The transitions from the last row of a piece to the first of the next.
    void count_between(const Piece& piece, const Piece& next, double weight, double* transitions) const {
        double joint[MOST_CUT * MOST_CUT], total = 0.0;
        for (Size i = 0; i < K; ++i)
            for (Size j = 0; j < K; ++j) total += joint[i * K + j] = piece.ends[i] * chain.transmat[i * K + j] * next.begins[j];
        for (Size i = 0; i < K * K; ++i) transitions[i] += joint[i] / total * weight;
    }

    const Chain& chain;
    const Size K;
    const Wanted wanted;
    const Kept kept;
    Law* laws[2];
    const std::function<Law&()> another;
    const std::vector<double> ones;
    double starts[MOST_CUT];
    bool lost = false;
    std::optional<Half<Matrix>> left, right;
    std::optional<Together> groups[2];
    std::optional<Logarithms> logarithms;
};

// Calls the smoother that suits the transitions.
inline bool smooth(const Chain& chain, const Wanted& wanted, const Kept& kept, Law& one, const std::function<Law&()>& another) {
    bool found = false;
    with_matrix({chain.transmat, chain.K, false}, [&](auto type) {
        found = Smoother<typename decltype(type)::type>(chain, wanted, kept, one, another).smooth();
    });
    return found;
}

}  // namespace
}  // namespace emkit
