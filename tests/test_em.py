"""The engine by itself: scripted models whose every answer is known, and real ones on real threads."""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import joblib
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from specimens import SPECIMENS, blobs
from threadpoolctl import threadpool_info

from emkit import EMGaussianMixture
from emkit._accelerate import ACCELERATORS, Plain, Secants
from emkit._charts import Real
from emkit._em import _ALLOWANCE, climb, total
from emkit._executors import workers
from emkit._model import Degenerate, Model, Rounding
from emkit._moves import swaps
from emkit._search import FitFailedError, _move, search
from emkit.emissions.shapes import Full
from emkit.finite_mixture import Mixture, Parts


class Point(NamedTuple):
    at: np.ndarray


class Height(NamedTuple):
    loglik: float
    at: np.ndarray


@dataclass(frozen=True)
class Hill(Model):
    """EM map towards 0 at the given rates; objective ``-sum((at / width)^2)``, so rates and gaps are known exactly."""

    rates: tuple[float, ...] = (0.9, 0.5)
    cliff: float = np.inf  # beyond this distance there is no answer
    starts: tuple[float, ...] = (1.0,)

    charts = {"at": Real()}  # noqa: RUF012

    def prepare(self, X, sample_weight=None):
        return X

    def split(self, data):
        return [data]

    def start(self, data, rng):
        height = rng.choice(self.starts)
        if height > self.cliff:
            raise Degenerate(f"{height} is over the cliff")
        return Point(np.full(len(self.rates), height))

    def expect(self, params, data):
        return Height(-float(np.square(params.at).sum()), params.at)

    def maximize(self, stats, params):
        if np.abs(stats.at).max() > self.cliff:
            raise Degenerate("over the cliff")
        return Point(stats.at * np.array(self.rates))

    def prior(self, params):
        return Height(0.0, np.zeros(len(params.at)))

    def rounding(self, data):
        return Rounding(1e-12, 1e-12)

    def frame(self, params, X): ...
    def outputs(self, data, wanted): ...
    def portions(self, data, out): ...
    def infer(self, params, data, out): ...
    def n_parameters(self, params): ...


def run(model, start=1.0, accelerate=Plain, tol=1e-6, max_iter=10_000):
    return climb(
        model, [None], Point(np.full(len(model.rates), start)), tol=tol, max_iter=max_iter, accelerate=accelerate
    )


@pytest.mark.parametrize("rate", [0.3, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("accelerate", ACCELERATORS.values())
def test_converged_means_that_less_than_tol_is_left(rate, accelerate):
    ascent = run(Hill((rate, rate / 2)), accelerate=accelerate, tol=1e-4)
    assert ascent.status == "converged"
    true_gap = -ascent.objective  # the optimum is 0
    assert true_gap <= 1.5e-4


def test_rate_and_gap_of_plain_em_are_exact_where_the_map_is_linear():
    ascent = run(Hill((0.95,)), tol=1e-3)
    np.testing.assert_allclose(ascent.rate, 0.95)
    assert -ascent.objective <= ascent.gap <= 1e-3
    unfinished = run(Hill((0.95,)), tol=1e-9, max_iter=20)
    np.testing.assert_allclose(unfinished.gap, -_ALLOWANCE * unfinished.objective, rtol=1e-6)


def test_max_iter_counts_steps_and_says_what_is_left():
    ascent = run(Hill((0.99,)), max_iter=7)
    assert (ascent.status, ascent.n_steps, len(ascent.history)) == ("max_iter", 7, 8)
    np.testing.assert_allclose(ascent.params.at, 0.99**7)
    assert ascent.gap > 1e-6


@pytest.mark.parametrize("acceleration", ["auto", "squarem", "anderson", "momentum"])
def test_an_accelerator_needs_far_fewer_steps_where_em_is_slow(acceleration):
    plain, fast = (run(Hill((0.999, 0.5)), accelerate=ACCELERATORS[a]).n_steps for a in (None, acceleration))
    assert fast < plain / 10


def test_secants_find_the_slowest_direction_of_a_linear_map():
    secants, x, rates = Secants(), np.ones(3), np.array([0.99, 0.5, 0.1])
    assert np.isnan(secants.rate())
    for _ in range(4):
        secants.observe(x, rates * x - x)
        x = rates * x
    np.testing.assert_allclose(secants.rate(), 0.99)
    np.testing.assert_allclose(rates * x + secants.least_squares((rates - 1.0) * x), 0.0, atol=1e-10)


def test_acceleration_moves_away_from_a_saddle_not_into_it():
    """Newton's step would lead back to the saddle; the eigendirection with a rate above 1 is followed outwards."""
    accelerator, seen, x, rates = ACCELERATORS["auto"](), Secants(), np.array([1e-3, 1.0]), np.array([1.1, 0.5])
    for _ in range(3):
        seen.observe(x, rates * x - x)
        accelerator.observe(x, rates * x)
        proposal = accelerator.propose(x, rates * x, seen)
        x = rates * x
    assert proposal[0] > x[0]


class Wild:
    """An accelerator that always proposes nonsense: worse points, then NaN."""

    def __init__(self):
        self.rejected = 0

    def observe(self, x, gx):
        pass

    def propose(self, x, gx, seen):
        return np.full_like(x, np.nan) if self.rejected % 2 else 100.0 * np.ones_like(x)

    def reject(self):
        self.rejected += 1


def test_nonsense_from_an_accelerator_is_rejected():
    ascent = run(Hill((0.5,)), accelerate=Wild, max_iter=200)
    assert (np.diff(ascent.history) >= 0).all()
    assert ascent.objective > -1e-6


def test_a_proposal_over_the_cliff_is_a_rejection_not_an_exception():
    ascent = run(Hill((0.5,), cliff=50.0), accelerate=Wild, max_iter=200)
    assert ascent.objective > -1e-6


class Falling(Hill):
    """An M-step that is wrong: the objective falls from the third step on."""

    def maximize(self, stats, params):
        return Point(stats.at * (0.5 if abs(stats.at[0]) > 0.3 else 3.0))


def test_an_em_step_that_falls_is_named_and_the_best_point_kept():
    ascent = run(Falling((0.5,)))
    assert ascent.status == "stalled"
    assert "lowered" in ascent.reason
    assert ascent.objective == max(ascent.history)


class Saddle(Hill):
    """Starts next to a saddle: steps grow before they shrink."""

    def expect(self, params, data):
        at = params.at[0]
        return Height(-((at**2 - 1.0) ** 2), params.at)

    def maximize(self, stats, params):
        at = stats.at[0]
        return Point(np.array([at + 0.05 * at * (1.0 - at**2)]))


def test_leaving_a_saddle_is_not_convergence():
    ascent = run(Saddle((0.5,)), start=1e-6, tol=1e-4)
    assert ascent.status == "converged"
    np.testing.assert_allclose(ascent.params.at, 1.0, atol=0.02)


def hunt(model, n_init, **settings):
    seed = np.random.SeedSequence(0)
    options = {"tol": 1e-6, "max_iter": 100, "accelerate": Plain, "n_workers": 1} | settings
    return search(model, None, n_init=n_init, seed=seed, **options)


def test_a_failing_start_is_recorded_not_fatal():
    found = hunt(Hill((0.5,), cliff=2.0, starts=(1.0, 1.5, 3.0)), 12)
    fates = {row["status"] for row in found.restarts}
    assert fates == {"converged", "failed", "duplicate"}
    assert all("cliff" in row["reason"] for row in found.restarts if row["status"] == "failed")


def test_if_all_starts_fail_so_does_the_fit_and_says_why():
    with pytest.raises(FitFailedError, match=r"every start failed \(3\.0 is over the cliff\)"):
        hunt(Hill((0.5,), cliff=2.0, starts=(3.0,)), 3)


class Blind(Hill):
    def expect(self, params, data):
        raise Degenerate("nothing can be seen")


def test_if_all_racers_fail_so_does_the_fit_and_says_why():
    with pytest.raises(FitFailedError, match=r"every start failed \(nothing can be seen\)"):
        hunt(Blind((0.5,), starts=(3.0, 4.0, 5.0)), "auto")


class Interrupted(Hill):
    def expect(self, params, data):
        if params.at[0] < 0.3:
            raise KeyboardInterrupt
        return super().expect(params, data)


def test_an_interrupt_keeps_the_best_point_and_stops_the_search():
    found = hunt(Interrupted((0.9,), starts=(1.0, 2.0, 4.0)), 20)
    assert found.best.status == "stopped"
    assert found.best.params.at[0] >= 0.3
    assert [row["status"] for row in found.restarts].count("stopped") == 1
    assert {row["status"] for row in found.restarts} == {"stopped", "duplicate"}


def test_an_interrupt_during_the_race_keeps_the_leader():
    found = hunt(Interrupted((0.2,), starts=(1.0, 2.0, 4.0, 8.0, 16.0)), "auto")
    assert found.best.status == "stopped"
    assert found.best.params.at[0] >= 0.3


def test_sums_are_pairwise_and_in_order():
    numbers = np.random.default_rng(0).normal(size=13)
    a = numbers
    eight = ((a[0] + a[1]) + (a[2] + a[3])) + ((a[4] + a[5]) + (a[6] + a[7]))
    four = (a[8] + a[9]) + (a[10] + a[11])
    assert total(iter(numbers)) == eight + (four + a[12])


# Real models
# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("n_init", [1, 3, "auto"])
def test_results_are_bit_identical_for_any_n_jobs(shape, n_init):
    X = blobs(np.random.default_rng(0), n=60_000, d=4, k=4, apart=1.0)
    fits = [
        EMGaussianMixture(4, covariance_type=shape, n_init=n_init, max_iter=12, tol=1e3, n_jobs=n_jobs, random_state=0)
        for n_jobs in (1, 2, 5)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for mixture in fits:
            mixture.fit(X)
    for mixture in fits[1:]:
        np.testing.assert_array_equal(mixture.covariances_, fits[0].covariances_)
        np.testing.assert_array_equal(mixture.history_, fits[0].history_)
        np.testing.assert_array_equal(mixture.predict_proba(X), fits[0].predict_proba(X))


def test_any_joblib_backend_gives_the_same(tmp_path):
    X = blobs(np.random.default_rng(0), n=40_000, d=8, k=8, apart=0.5)
    one = EMGaussianMixture(8, n_init=3, max_iter=40, n_jobs=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one.fit(X)
        with joblib.parallel_config(backend="loky", n_jobs=2, temp_folder=str(tmp_path)):
            two = EMGaussianMixture(8, n_init=3, max_iter=40, random_state=0).fit(X)
    np.testing.assert_array_equal(one.means_, two.means_)


def test_blas_is_held_to_one_thread(monkeypatch):
    seen = set()
    specimen = SPECIMENS["mixture-full"]
    maximize = type(specimen.model).maximize

    def spy(self, stats, params):
        seen.update(lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas")
        return maximize(self, stats, params)

    monkeypatch.setattr(type(specimen.model), "maximize", spy)
    EMGaussianMixture(3, random_state=0).fit(specimen.X)
    assert seen == {1}


def test_threads_give_results_in_order():
    with workers(4) as run:
        assert list(run(lambda i: i**2, range(50))) == [i**2 for i in range(50)]


@pytest.mark.parametrize("wrong", [0, 1, 49])
def test_an_error_in_any_thread_is_raised(wrong):
    with workers(3) as run, pytest.raises(ZeroDivisionError):
        list(run(lambda i: 1 // (i - wrong), range(50)))


def test_moves_leave_a_local_optimum_and_a_saddle():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(at, 1.0, size=(100, 2)) for at in (0.0, 10.0, 20.0)])
    model = Mixture(Full(1e-6), 3)
    data = model.prepare(X)
    model = model.calibrate(data)
    how = {"tol": 1e-4, "max_iter": 500, "accelerate": ACCELERATORS["auto"]}
    where = {
        "truth": ((0.0, 10.0, 20.0), 1.0),
        "one component on two groups": ((0.0, 0.5, 15.0), 1.0),
        "all alike": ((10.0, 10.0, 10.0), 1e-2),
    }
    ends = {}
    for name, (means, precision) in where.items():
        law = model.law.from_precisions(np.array([[at, at] for at in means]), np.array([np.eye(2) * precision] * 3))
        start = model.standardize(Parts(np.full(3, 1 / 3), law), data)
        ends[name] = climb(model, model.split(data), start, **how)
    assert _move(model, model.sketch(data), model.split(data), ends["truth"], True, 1, **how) == (
        ends["truth"],
        False,  # a move led back: it is no longer found only once
        False,
    )
    for name in list(where)[1:]:
        assert ends[name].objective < ends["truth"].objective - 10
        moved, is_lone, _ = _move(model, model.sketch(data), model.split(data), ends[name], True, 1, **how)
        assert not is_lone
        assert climb(model, model.split(data), moved.params, **how).objective > ends["truth"].objective - 1e-3


def test_an_optimum_found_only_once_is_warned_of():
    rng = np.random.default_rng(1)
    clear = np.concatenate([rng.normal(at, 1.0, size=(60, 2)) for at in (0.0, 10.0, 20.0)])
    shapeless = rng.uniform(size=(500, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        EMGaussianMixture(3, random_state=0).fit(clear)
        EMGaussianMixture(12, covariance_type="spherical", n_init=1, random_state=0).fit(
            shapeless
        )  # there is nothing to compare with
    with pytest.warns(ConvergenceWarning, match=r"only once.*restarts_"):
        mixture = EMGaussianMixture(12, covariance_type="spherical", n_init=4, random_state=0).fit(shapeless)
    ends = np.sort([row["objective"] for row in mixture.restarts_])
    assert ends[-1] - ends[-2] > 0.01
    with pytest.warns(ConvergenceWarning, match="only once"):
        EMGaussianMixture(12, covariance_type="spherical", random_state=0).fit(shapeless)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::emkit.exceptions.DataWarning")
@pytest.mark.parametrize(("k", "shape"), [(1, "full"), (3, "tied")])
def test_a_converged_climb_reports_no_rate_of_a_saddle_or_of_noise(k, shape):
    """One normal is found in one step; three in three places pass a saddle and end too soon to tell of a pace."""
    X = np.repeat([[8.34558419], [8.82161814], [0.33043708]], 2, axis=0)
    mixture = EMGaussianMixture(k, covariance_type=shape, n_init=1, random_state=0).fit(X)
    assert 0.0 <= mixture.rate_ < 1.0


def test_a_swap_without_an_answer_is_left_out():
    rng = np.random.default_rng(0)
    X, resp, calls = rng.normal(size=(50, 2)), rng.dirichlet(np.ones(3), size=50), []

    def begin(moved):
        calls.append(moved)
        if len(calls) % 2:
            raise Degenerate("component 0 has no rows")
        return len(calls)

    given = list(swaps(resp, np.ones(50), X, begin))
    assert given == list(range(2, len(calls) + 1, 2))
    assert len(calls) == 2 * 6  # two axes, three parts to give up, two others to cut
