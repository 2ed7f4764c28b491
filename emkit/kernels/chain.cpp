// Hidden Markov chains: the kernels specified in chain.py.

#include "chain_smooth.hpp"
#include "chain_viterbi.hpp"

namespace emkit {
namespace {

constexpr double MIXING = 1e-100;  // chain.py

// Filtering --------------------------------------------------------------------------------------------------------------

template <class Matrix> void filter(const Chain& chain, double* log_prob, double* increments) {
    const Size K = chain.K;
    const Matrix M({chain.transmat, K, false});
    const Size stride = M.stride;
    Given law(K, log_prob, log_prob);
    Buffer<double> states(stride * STRIDE), b(ROWS * stride), p(stride), rows((ROWS + 4) * stride);
    double* const x = rows + 2 * stride;
    const auto densities = [&](Size begin, int count) {
        double highest[ROWS];
        law.densities({begin, count}, {0, K}, {0, K}, states, highest);
        transpose(states, STRIDE, stride, round_up(count, N), b, stride);
    };
    std::unique_ptr<Logarithms> logarithms;
    const bool mixing = *std::min_element(chain.transmat, chain.transmat + K * K) >= MIXING;
    chain.for_each([&](Size, Size begin, Size T) {
        double *l = log_prob + begin * K, *increment = increments + begin;
        densities(begin, 1);
        Scaling scaling;
        for (Size k = 0; k < K; ++k) scaling.total += x[k] = chain.startprob[k] * b[k];
        if (!mixing || !(scaling.total >= LEAST)) {
            if (!logarithms) logarithms.reset(new Logarithms(chain.startprob, chain.transmat, K));
            return logarithms->filter({l, l, T}, increment);
        }
        for (Size t = 0; t < T; t += ROWS) {
            const int count = int(std::min<Size>(ROWS, T - t));
            densities(begin + t, count);
            for (int r = 0; r < count; ++r, l += K) {
                double before = 1.0, highest = LOWEST;
                scaling.exponents = 0;
                if (t + r > 0) {
                    before = scaling.total;
                    M.run({0, stride}, b + r * stride, p, x + r * stride, stride, 1, scaling);
                }
                for (Size k = 0; k < K; ++k) highest = std::max(highest, l[k]);
                const double total = scaling.total, exponent = double(scaling.exponents);
                *increment++ = total > 0.0 ? std::log(total / before) + LOG_2 * exponent + highest : IMPOSSIBLE;
                const double share = total > 0.0 ? 1.0 / total : 0.0;
                for (Size k = 0; k < K; ++k) l[k] = x[r * stride + k] * share;
            }
            std::copy(x + (count - 1) * stride, x + count * stride, x - stride);
        }
    });
}

// The door ---------------------------------------------------------------------------------------------------------------

template <class T, int DIMENSIONS> using InOut = nb::ndarray<T, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;
using Counts = nb::ndarray<const Size, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Weight = std::optional<Parameter<1>>;

Chain check(size_t n, const Counts& lengths, const Parameter<1>& startprob, const Parameter<2>& transmat) {
    const size_t K = startprob.shape(0);
    if (K == 0) throw nb::value_error("at least one state is needed");
    check_shape("transmat", transmat, {K, K});
    Size total = 0;
    for (size_t s = 0; s < lengths.shape(0); ++s) {
        const Size length = lengths.data()[s];
        if (length < 1 || length > Size(n) - total) throw nb::value_error("lengths must be positive and add up to the rows");
        total += length;
    }
    if (total != Size(n)) throw nb::value_error("lengths must be positive and add up to the rows");
    return {Size(n), Size(K), lengths.data(), Size(lengths.shape(0)), startprob.data(), transmat.data()};
}

// What is wanted of sequences, and memory for the sums over starts and transitions.
struct Sums {
    nb::ndarray<nb::numpy, double> starts, transitions;
    Wanted wanted;

    Sums(const Chain& chain, const Weight& weight, const InOut<double, 1>& logliks, int n_threads)
        : starts(zeros({size_t(chain.K)})), transitions(zeros({size_t(chain.K), size_t(chain.K)})) {
        if (weight) check_shape("weight", *weight, {size_t(chain.count)});
        check_shape("logliks", logliks, {size_t(chain.count)});
        wanted = {weight ? weight->data() : nullptr, logliks.data(), starts.data(), transitions.data(), n_threads};
    }
};

nb::object forward_backward(const InOut<const double, 2>& log_prob, const Counts& lengths, const Weight& weight,
                            const Parameter<1>& startprob, const Parameter<2>& transmat, const InOut<double, 2>& states,
                            const InOut<double, 1>& logliks, int n_threads) {
    check_apart({{"states", states}, {"logliks", logliks}},
                {{"log_prob", log_prob}, {"lengths", lengths}, {"weight", weight}, {"startprob", startprob},
                 {"transmat", transmat}});
    const Chain chain = check(log_prob.shape(0), lengths, startprob, transmat);
    for (const auto& [name, rows] : {std::pair("log_prob", log_prob), std::pair("states", InOut<const double, 2>(states))})
        check_shape(name, rows, {size_t(chain.n), size_t(chain.K)});
    const Sums sums(chain, weight, logliks, n_threads);
    {
        nb::gil_scoped_release released;
        Given one(chain.K, log_prob.data(), states.data());
        std::optional<Given> two;
        const auto another = [&]() -> Law& { return two.emplace(chain.K, log_prob.data(), states.data()); };
        smooth(chain, sums.wanted, {log_prob.data(), states.data()}, one, another);
    }
    return nb::make_tuple(sums.starts, sums.transitions);
}

void add(const std::vector<double>& from, const nb::ndarray<nb::numpy, double>& to) {
    for (size_t i = 0; i < from.size(); ++i) to.data()[i] += from[i];
}

nb::object expect_chain_symbols(const InOut<const double, 2>& numbers, const Parameter<2>& table, const Counts& lengths, const Weight& weight,
                                const Parameter<1>& startprob, const Parameter<2>& transmat, const InOut<double, 1>& logliks,
                                int n_threads) {
    check_apart({{"logliks", logliks}}, {{"numbers", numbers}, {"table", table}, {"lengths", lengths},
                                         {"weight", weight}, {"startprob", startprob}, {"transmat", transmat}});
    const Chain chain = check(numbers.shape(0), lengths, startprob, transmat);
    const size_t K = chain.K, m = table.shape(0);
    check_shape("numbers", numbers, {size_t(chain.n), 1});
    check_shape("table", table, {m, K});
    if (m == 0) throw nb::value_error("table needs a row for a missing symbol");
    const Sums sums(chain, weight, logliks, n_threads);
    const auto counts = zeros({m, K});
    std::vector<double> others;
    bool found;
    {
        nb::gil_scoped_release released;
        Symbols one(K, m - 1, numbers.data(), table.data(), counts.data());
        std::optional<Symbols> two;
        found = smooth(chain, sums.wanted, {}, one, [&]() -> Law& {
            others.resize(m * K);
            return two.emplace(K, m - 1, numbers.data(), table.data(), others.data());
        });
        one.finish();
        if (two) two->finish();
    }
    if (!found) return nb::none();
    add(others, counts);
    return nb::make_tuple(sums.starts, sums.transitions, counts);
}

// The most probable paths, for two laws of the same rows.
void decode(const Chain& chain, Law& one, Law& two, const InOut<Size, 1>& path, const InOut<double, 1>& scores, int n_threads) {
    if (chain.K <= FEW) decode<Packed>(chain, one, two, path.data(), scores.data(), n_threads);
    else if (chain.K <= 256) decode<std::uint8_t>(chain, one, two, path.data(), scores.data(), n_threads);
    else decode<std::uint32_t>(chain, one, two, path.data(), scores.data(), n_threads);
}

void check_paths(const Chain& chain, const InOut<Size, 1>& path, const InOut<double, 1>& scores) {
    check_shape("path", path, {size_t(chain.n)});
    check_shape("scores", scores, {size_t(chain.count)});
}

template <template <class> class Shape> struct NormalDoor {
    using Covariance = Parameter<Shape<double>::DIMENSIONS>;

    static nb::object expect(const Matrix& X, const Parameter<1>& center, const Parameter<1>& scale, const Parameter<2>& means,
                             const Covariance& covariance, const Counts& lengths, const Weight& weight, const Parameter<1>& startprob,
                             const Parameter<2>& transmat, const InOut<double, 1>& logliks, int n_threads) {
        check_apart({{"logliks", logliks}},
                    {{"X", X}, {"center", center}, {"scale", scale}, {"means", means},
                     {Shape<double>::COVARIANCE, covariance}, {"lengths", lengths}, {"weight", weight},
                     {"startprob", startprob}, {"transmat", transmat}});
        const Data data = Door<Shape>::check(X, std::nullopt, center, scale, means);
        const Chain chain = check(X.shape(0), lengths, startprob, transmat);
        const size_t K = chain.K, d = data.d;
        check_law(chain, data, means, covariance);
        const Sums sums(chain, weight, logliks, n_threads);
        const Lengths own = Shape<double>::seconds_shape(K, d), seconds_shape = own.empty() ? Lengths{d, d} : own;
        const std::vector<double> log_weights(K);
        const auto counts = zeros({K}), firsts = zeros({K, d}), seconds = zeros(seconds_shape);
        std::vector<double> other_counts, other_firsts, other_seconds;
        bool found = false;
        Door<Shape>::in_precision_of(X, [&](auto zero) {
            using Rows = Normal<Shape, decltype(zero)>;
            const auto arguments = [&](double* firsts, double* seconds) {
                return Arguments{Size(K), Size(d), log_weights.data(), means.data(), covariance.data(), firsts, seconds};
            };
            Rows one(data, arguments(firsts.data(), seconds.data()), counts.data());
            std::optional<Rows> two;
            found = smooth(chain, sums.wanted, {}, one, [&]() -> Law& {
                other_counts.resize(K), other_firsts.resize(firsts.size()), other_seconds.resize(seconds.size());
                return two.emplace(data, arguments(other_firsts.data(), other_seconds.data()), other_counts.data());
            });
            one.finish();
            if (two) two->finish();
        });
        if (!found) return nb::none();
        add(other_counts, counts), add(other_firsts, firsts), add(other_seconds, seconds);
        return nb::make_tuple(sums.starts, sums.transitions, counts, firsts, seconds);
    }

    static void viterbi(const Matrix& X, const Parameter<1>& center, const Parameter<1>& scale, const Parameter<2>& means,
                        const Covariance& covariance, const Counts& lengths, const Parameter<1>& startprob, const Parameter<2>& transmat,
                        const InOut<Size, 1>& path, const InOut<double, 1>& scores, int n_threads) {
        check_apart({{"path", path}, {"scores", scores}},
                    {{"X", X}, {"center", center}, {"scale", scale}, {"means", means},
                     {Shape<double>::COVARIANCE, covariance}, {"lengths", lengths}, {"startprob", startprob},
                     {"transmat", transmat}});
        const Data data = Door<Shape>::check(X, std::nullopt, center, scale, means);
        const Chain chain = check(X.shape(0), lengths, startprob, transmat);
        check_law(chain, data, means, covariance);
        check_paths(chain, path, scores);
        const std::vector<double> log_weights(chain.K);
        const Arguments arguments{chain.K, data.d, log_weights.data(), means.data(), covariance.data(), nullptr, nullptr};
        Door<Shape>::in_precision_of(X, [&](auto zero) {
            Normal<Shape, decltype(zero)> one(data, arguments, nullptr), two(data, arguments, nullptr);
            decode(chain, one, two, path, scores, n_threads);
        });
    }

    static void check_law(const Chain& chain, const Data& data, const Parameter<2>& means, const Covariance& covariance) {
        check_shape("means", means, {size_t(chain.K), size_t(data.d)});
        check_shape(Shape<double>::COVARIANCE, covariance, Shape<double>::covariance_shape(chain.K, data.d));
    }

    // expect_chain_full, expect_chain_tied, expect_chain_diag, expect_chain_spherical;
    // viterbi_full, viterbi_tied, viterbi_diag, viterbi_spherical.
    static void define(nb::module_& module, const std::string& name) {
        const auto strict = [](const char* argument) { return nb::arg(argument).noconvert(); };
        module.def(("expect_chain_" + name).c_str(), &expect, strict("X"), strict("center"), strict("scale"), strict("means"),
                   strict(Shape<double>::COVARIANCE), strict("lengths"), strict("weight").none(), strict("startprob"), strict("transmat"),
                   strict("logliks"), nb::arg("n_threads"));
        module.def(("viterbi_" + name).c_str(), &viterbi, strict("X"), strict("center"), strict("scale"), strict("means"),
                   strict(Shape<double>::COVARIANCE), strict("lengths"), strict("startprob"), strict("transmat"), strict("path"),
                   strict("scores"), nb::arg("n_threads"));
    }
};

void filter_chain(const InOut<double, 2>& log_prob, const Counts& lengths, const Parameter<1>& startprob, const Parameter<2>& transmat,
                  const InOut<double, 1>& increments) {
    check_apart({{"log_prob", log_prob}, {"increments", increments}},
                {{"lengths", lengths}, {"startprob", startprob}, {"transmat", transmat}});
    const Chain chain = check(log_prob.shape(0), lengths, startprob, transmat);
    check_shape("log_prob", log_prob, {size_t(chain.n), size_t(chain.K)});
    check_shape("increments", increments, {size_t(chain.n)});
    nb::gil_scoped_release released;
    with_matrix({chain.transmat, chain.K, false},
                [&](auto type) { filter<typename decltype(type)::type>(chain, log_prob.data(), increments.data()); });
}

void viterbi(const InOut<const double, 2>& log_prob, const Counts& lengths, const Parameter<1>& startprob, const Parameter<2>& transmat,
             const InOut<Size, 1>& path, const InOut<double, 1>& scores, int n_threads) {
    check_apart({{"path", path}, {"scores", scores}},
                {{"log_prob", log_prob}, {"lengths", lengths}, {"startprob", startprob}, {"transmat", transmat}});
    const Chain chain = check(log_prob.shape(0), lengths, startprob, transmat);
    check_shape("log_prob", log_prob, {size_t(chain.n), size_t(chain.K)});
    check_paths(chain, path, scores);
    nb::gil_scoped_release released;
    Given one(chain.K, log_prob.data(), nullptr), two(chain.K, log_prob.data(), nullptr);
    decode(chain, one, two, path, scores, n_threads);
}

}  // namespace

void define_chain(nb::module_& module) {
    const auto strict = [](const char* argument) { return nb::arg(argument).noconvert(); };  // never a silent copy
    module.def("forward_backward", &forward_backward, strict("log_prob"), strict("lengths"), strict("weight").none(), strict("startprob"),
               strict("transmat"), strict("states"), strict("logliks"), nb::arg("n_threads"));
    NormalDoor<Full>::define(module, "full");
    NormalDoor<Tied>::define(module, "tied");
    NormalDoor<Diag>::define(module, "diag");
    NormalDoor<Spherical>::define(module, "spherical");
    module.def("expect_chain_symbols", &expect_chain_symbols, strict("numbers"), strict("table"), strict("lengths"),
               strict("weight").none(), strict("startprob"), strict("transmat"), strict("logliks"), nb::arg("n_threads"));
    module.def("filter_chain", &filter_chain, strict("log_prob"), strict("lengths"), strict("startprob"), strict("transmat"),
               strict("increments"));
    module.def("viterbi", &viterbi, strict("log_prob"), strict("lengths"), strict("startprob"), strict("transmat"), strict("path"),
               strict("scores"), nb::arg("n_threads") = 1);
}

}  // namespace emkit
