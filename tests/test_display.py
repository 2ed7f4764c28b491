"""Pictures show the numbers of the fit; what they look like is looked at in the gallery."""

import sys
import warnings

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.stats import multivariate_normal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emkit import EMGaussianMixture, EMHiddenMarkov, EMImputer, datasets, select
from emkit.display import (
    ConvergenceDisplay,
    MissingPatternDisplay,
    MixtureDisplay,
    OverimputationDisplay,
    SelectionDisplay,
    StatePathDisplay,
    TransitionDisplay,
)

plt = pytest.importorskip("matplotlib.pyplot")

FAITHFUL = datasets.load_faithful().data
CRABS = datasets.load_crabs().data
EARTHQUAKES = datasets.load_earthquakes().data


@pytest.fixture(autouse=True)
def figures():
    plt.switch_backend("Agg")
    yield
    plt.close("all")


def mixture(X, k, covariance_type="full"):
    return EMGaussianMixture(k, covariance_type=covariance_type, random_state=0).fit(X)


def waves(*lengths, columns=1):
    """Sequences that are low for 20 rows, high for 20, and so on."""
    rng = np.random.default_rng(0)
    return [np.where(np.arange(n)[:, None] % 40 < 20, 0.0, 4.0) + rng.normal(size=(n, columns)) for n in lengths]


def draw(display):
    """Render: whatever cannot be drawn raises or warns here."""
    display.figure_.canvas.draw()
    return display


@pytest.fixture(scope="module")
def pair():
    return mixture(FAITHFUL, 2)


@pytest.fixture(scope="module")
def chain():
    return EMHiddenMarkov(2, emission="poisson", random_state=0).fit(EARTHQUAKES)


def everything(pair, chain):
    """A call that draws each display, given where."""
    selection = select(EMGaussianMixture(random_state=0), FAITHFUL, {"n_components": [1, 2]})
    imputer = EMImputer().fit(datasets.load_airquality().data)
    crabs = mixture(CRABS, 2, "tied")
    return {
        "convergence": lambda ax: ConvergenceDisplay.from_estimator(pair, ax=ax),
        "missing": lambda ax: MissingPatternDisplay.from_estimator(imputer, ax=ax),
        "overimputation": lambda ax: OverimputationDisplay.from_estimator(
            imputer, datasets.load_airquality().data, ax=ax
        ),
        "mixture": lambda ax: MixtureDisplay.from_estimator(pair, FAITHFUL, ax=ax),
        "marginals": lambda ax: MixtureDisplay.from_estimator(crabs, CRABS, ax=ax),
        "selection": lambda ax: SelectionDisplay.from_selection(selection, ax=ax),
        "path": lambda ax: StatePathDisplay.from_estimator(chain, EARTHQUAKES, ax=ax),
        "path, probabilities": lambda ax: StatePathDisplay.from_estimator(
            chain, EARTHQUAKES, probabilities=True, ax=ax
        ),
        "transition": lambda ax: TransitionDisplay.from_estimator(chain, ax=ax),
    }


def test_a_display_stays_where_it_is_put(pair, chain):
    for name, drawn in everything(pair, chain).items():
        figure, (left, right) = plt.subplots(1, 2, layout="constrained")
        display = draw(drawn(left))
        assert display.figure_ is figure, name
        assert not right.has_data(), name
        axes = getattr(display, "axes_", np.array([display.ax_]))
        assert all(ax.get_position().x1 <= right.get_position().x0 for ax in axes.flat), name
        assert (axes.size > 1) != (display.ax_ is left), name


def test_a_place_outside_any_grid_is_divided_too(pair):
    figure = plt.figure()
    ax = figure.add_axes((0.5, 0.5, 0.4, 0.4))
    display = draw(ConvergenceDisplay.from_estimator(pair, ax=ax))
    boxes = [panel.get_position() for panel in display.axes_.flat]
    np.testing.assert_allclose([boxes[0].x0, boxes[1].x1, boxes[0].y0, boxes[1].y1], [0.5, 0.9, 0.5, 0.9])


def test_without_matplotlib_the_remedy_is_named(pair, chain, monkeypatch):
    calls = everything(pair, chain)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for drawn in calls.values():
        with pytest.raises(ImportError, match=r"pip install 'emkit\[plot\]'"):
            drawn(None)


def test_nothing_is_drawn_of_what_is_not_fitted():
    for drawn in (
        lambda: ConvergenceDisplay.from_estimator(EMGaussianMixture()),
        lambda: MixtureDisplay.from_estimator(EMGaussianMixture(), FAITHFUL),
        lambda: StatePathDisplay.from_estimator(EMHiddenMarkov(), EARTHQUAKES),
        lambda: TransitionDisplay.from_estimator(EMHiddenMarkov()),
    ):
        with pytest.raises(ValueError, match="not fitted"):
            drawn()


def test_a_display_says_what_it_is_for():
    pipeline = make_pipeline(StandardScaler(), EMGaussianMixture(2, random_state=0)).fit(FAITHFUL)
    for display in (MixtureDisplay, ConvergenceDisplay):
        with pytest.raises(TypeError, match=r"not a Pipeline: give pipeline\[-1\], and pipeline\[:-1\].transform"):
            display.from_estimator(pipeline, *([FAITHFUL] if display is MixtureDisplay else []))
    with pytest.raises(TypeError, match="MixtureDisplay shows an EMGaussianMixture, but this is of EMImputer"):
        MixtureDisplay.from_estimator(EMImputer().fit(FAITHFUL), FAITHFUL)
    with pytest.raises(TypeError, match="shows an estimator of emkit, but this is of StandardScaler"):
        ConvergenceDisplay.from_estimator(pipeline[0])


# Convergence ----------------------------------------------------------------------------------------------------------


def test_the_climb_is_the_history():
    fitted = EMGaussianMixture(3, n_init=5, random_state=0).fit(FAITHFUL)
    display = draw(ConvergenceDisplay.from_estimator(fitted))
    np.testing.assert_array_equal(display.climb_.get_ydata(), fitted.objective_ - np.asarray(fitted.history_))
    assert display.climb_.get_ydata()[-1] == 0.0
    ends = np.sort([start["objective"] for start in fitted.restarts_])[::-1]
    np.testing.assert_array_equal(display.starts_["converged"].get_ydata(), np.maximum(fitted.objective_ - ends, 0.0))


def test_every_start_is_drawn_once_under_its_status():
    fates = [("converged", -10.0), ("degenerate", -3.0), ("outrun", -12.0), ("failed", -np.inf), ("duplicate", -10.0)]
    restarts = [{"start": i, "status": s, "objective": o, "n_iter": 1, "reason": ""} for i, (s, o) in enumerate(fates)]
    display = draw(ConvergenceDisplay(np.array([-20.0, -11.0, -10.0]), restarts, 0.1).plot())
    ranks = {name: line.get_xdata().tolist() for name, line in display.starts_.items()}
    assert ranks == {"degenerate": [1], "converged": [2], "duplicate": [3], "outrun": [4], "failed": [5]}
    assert display.starts_["degenerate"].get_ydata() == [0.0]  # not below the axis
    assert display.starts_["outrun"].get_ydata() == [2.0]
    assert display.ax_.get_title() == "Start 0: converged"
    assert any(line.get_xdata()[0] == 5 and line.get_ydata()[0] < 1.0 for line in display.axes_[0, 1].lines)


def test_one_start_is_one_panel():
    imputer = EMImputer().fit(datasets.load_airquality().data)
    display = draw(ConvergenceDisplay.from_estimator(imputer))
    assert display.axes_.shape == (1, 1)
    assert display.starts_ == {}


def test_a_fit_that_needed_no_climb_can_be_drawn():
    display = draw(ConvergenceDisplay.from_estimator(mixture(FAITHFUL, 1)))
    assert not display.climb_.get_ydata().any()
    assert len(display.starts_["duplicate"].get_xdata()) == len(display.restarts) - 1


def test_a_stream_has_no_climb():
    with pytest.raises(ValueError, match="only fit climbs from a start"):
        ConvergenceDisplay.from_estimator(EMGaussianMixture(1).partial_fit(FAITHFUL).partial_fit(FAITHFUL))


# Mixture --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_ellipses_are_the_covariances(covariance_type):
    fitted = mixture(FAITHFUL, 2, covariance_type)
    display = draw(MixtureDisplay.from_estimator(fitted, FAITHFUL, n_std=1.5))
    whole = {
        "full": lambda S: S,
        "tied": lambda S: np.array([S, S]),
        "diag": lambda S: np.array([np.diag(variances) for variances in S]),
        "spherical": lambda S: np.array([variance * np.eye(2) for variance in S]),
    }[covariance_type](fitted.covariances_)
    assert len(display.ellipses_) == 2
    for ellipse, mean, covariance in zip(display.ellipses_, fitted.means_, whole, strict=True):
        np.testing.assert_allclose(ellipse.center, mean)
        axes = np.square([ellipse.height / 3.0, ellipse.width / 3.0])
        np.testing.assert_allclose(axes, np.linalg.eigvalsh(covariance), rtol=1e-9)
        # Every point of the outline is 1.5 standard deviations from the mean.
        outline = ellipse.get_patch_transform().transform(ellipse.get_path().vertices[::3]) - mean
        distances = np.einsum("ij,jk,ik->i", outline, np.linalg.inv(covariance), outline)
        np.testing.assert_allclose(distances, 1.5**2, rtol=1e-6)


def test_rows_have_the_colours_of_their_components(pair):
    display = draw(MixtureDisplay.from_estimator(pair, FAITHFUL))
    (scatter,) = display.scatters_
    np.testing.assert_array_equal(scatter.get_offsets(), FAITHFUL)
    edges = [ellipse.get_edgecolor()[:3] for ellipse in display.ellipses_]
    np.testing.assert_allclose(scatter.get_facecolors()[:, :3], np.array(edges)[pair.predict(FAITHFUL)])


def test_densities_of_one_column_are_those_of_the_mixture():
    X = datasets.load_galaxies().data
    fitted = mixture(X, 3)
    display = draw(MixtureDisplay.from_estimator(fitted, X))
    *parts, total = display.densities_
    assert len(parts) == 3
    np.testing.assert_allclose(np.log(total.get_ydata()), fitted.score_samples(total.get_xdata()[:, None]), rtol=1e-9)
    for part, weight, mean, covariance in zip(parts, fitted.weights_, fitted.means_, fitted.covariances_, strict=True):
        density = multivariate_normal(mean, covariance).pdf(part.get_xdata())
        np.testing.assert_allclose(part.get_ydata(), weight * density)
    (bars,) = display.ax_.containers
    area = sum(bar.get_height() * bar.get_width() for bar in bars)
    assert abs(area - 1.0) < 1e-9  # on the scale of the densities
    assert 0.95 < trapezoid(total.get_ydata(), total.get_xdata()) < 1.0


def test_marginal_pairs_are_cut_out_of_the_covariances():
    fitted = mixture(CRABS, 3)
    display = draw(MixtureDisplay.from_estimator(fitted, CRABS, features=[3, 0, 2]))
    assert display.axes_.shape == (3, 3)
    pairs = [(3, 0), (3, 2), (0, 2)]  # column and row, by rows of the square
    assert len(display.scatters_) == len(pairs)
    for number, two in enumerate(pairs):
        np.testing.assert_array_equal(display.scatters_[number].get_offsets(), CRABS[:, two])
        for k in range(3):
            ellipse = display.ellipses_[3 * number + k]
            variances = np.linalg.eigvalsh(fitted.covariances_[k][np.ix_(two, two)])
            np.testing.assert_allclose([ellipse.height, ellipse.width], 4.0 * np.sqrt(variances))
    assert [ax.get_xlabel() for ax in display.axes_[-1]] == ["x3", "x0", "x2"]
    assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == ["density", "x0", "x2"]
    assert not display.axes_[0, 1].axison


def test_of_many_columns_four_are_drawn_and_the_rest_named():
    display = draw(MixtureDisplay.from_estimator(mixture(CRABS, 2), CRABS))
    assert display.axes_.shape == (4, 4)
    assert display.ax_.get_title(loc="left") == "columns not shown: 1"


def test_columns_have_names():
    frame = datasets.load_faithful(as_frame=True).data
    fitted = mixture(frame, 2)
    display = draw(MixtureDisplay.from_estimator(fitted, frame, features=["waiting"]))
    assert display.ax_.get_xlabel() == "waiting"
    np.testing.assert_allclose(
        display.densities_[0].get_xdata()[np.argmax(display.densities_[0].get_ydata())], fitted.means_[0, 1]
    )
    for wrong, message in ((["age"], "'age'.*eruptions, waiting"), ([2], "there is no column 2"), ([0, 0], "twice")):
        with pytest.raises(ValueError, match=message):
            display.plot(features=wrong)


def test_rows_with_missing_cells_are_drawn_where_they_can_be(pair):
    X = FAITHFUL.copy()
    X[:10, 0] = np.nan
    display = MixtureDisplay(
        X, pair.predict(FAITHFUL), pair.weights_, pair.means_, pair.covariances_, ["eruptions", "waiting"]
    )
    assert np.ma.getmaskarray(draw(display.plot()).scatters_[0].get_offsets()).any(axis=1).sum() == 10
    display = draw(display.plot(features=[0]))
    assert all(np.isfinite(line.get_xydata()).all() for line in display.densities_)


def test_one_component_and_many():
    assert len(draw(MixtureDisplay.from_estimator(mixture(FAITHFUL, 1), FAITHFUL)).ellipses_) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether that many components are there does not matter here
        fitted = mixture(FAITHFUL, 10, "diag")
    edges = {ellipse.get_edgecolor() for ellipse in MixtureDisplay.from_estimator(fitted, FAITHFUL).ellipses_}
    assert len(edges) == 10


def test_of_many_rows_some_are_drawn(pair):
    display = MixtureDisplay.from_estimator(pair, FAITHFUL, max_rows=50)
    assert display.X.shape == (50, 2)
    np.testing.assert_array_equal(display.labels, pair.predict(display.X))


def test_rows_of_a_mixture_are_drawn_from_arrays(pair, tmp_path):
    for X in (lambda: [FAITHFUL], [FAITHFUL]):
        with pytest.raises(ValueError, match="read in blocks: give the rows to draw as an array"):
            MixtureDisplay.from_estimator(pair, X)
    np.save(tmp_path / "rows.npy", FAITHFUL)
    display = draw(MixtureDisplay.from_estimator(pair, tmp_path / "rows.npy"))
    np.testing.assert_array_equal(display.X, FAITHFUL)


# Selection ------------------------------------------------------------------------------------------------------------


def test_no_candidates_are_not_drawn():
    with pytest.raises(ValueError, match="results is empty"):
        SelectionDisplay([], "bic").plot()


def test_lines_are_the_criterion_of_each_shape():
    grid = {"n_components": [3, 1, 2], "covariance_type": ["full", "diag"]}
    found = select(EMGaussianMixture(random_state=0), FAITHFUL, grid, criterion="icl")
    display = draw(SelectionDisplay.from_selection(found))
    lowest = min(row["criterion"] for row in found.results_)
    assert list(display.lines_) == ["full", "diag"]
    for shape, line in display.lines_.items():
        rows = sorted((r["n_components"], r["criterion"]) for r in found.results_ if r["covariance_type"] == shape)
        np.testing.assert_allclose(line.get_xydata(), np.array(rows) - [0.0, lowest])
    low, high = display.ax_.get_ylim()
    assert all(low < y < high for line in display.lines_.values() for y in line.get_ydata())
    assert display.best_.get_xydata().tolist() == [[found.best_params_["n_components"], 0.0]]
    assert display.ax_.get_ylabel() == f"ICL above the lowest, {lowest:.1f}"
    display = draw(SelectionDisplay(found.results_).plot(relative=False))
    assert display.best_.get_ydata() == [lowest]


def test_candidates_that_cannot_win_are_at_the_edge():
    results = [
        {"n_components": k, "reg_covar": r, "criterion": c, "status": s, "reason": "", "seconds": 0.1}
        for k, r, c, s in [
            (1, 0.0, 50.0, "converged"),
            (2, 0.0, np.inf, "degenerate"),
            (1, 0.1, 51.0, "converged"),
            (2, 0.1, 40.0, "converged"),
        ]
    ]
    display = draw(SelectionDisplay(results, "bic").plot())
    assert list(display.lines_) == ["0.0", "0.1"]
    np.testing.assert_array_equal(display.lines_["0.0"].get_ydata(), [10.0, np.nan])
    crosses = [line.get_xdata().tolist() for line in display.ax_.lines if line.get_marker() == "x"]
    assert crosses == [[2], []]
    display = draw(display.plot(x="reg_covar"))
    assert list(display.lines_) == ["1", "2"]
    for wrong, message in (("criterion", "not a parameter"), ("covariance_type", "n_components.*reg_covar")):
        with pytest.raises(ValueError, match=message):
            display.plot(x=wrong)
    with pytest.raises(ValueError, match="finite"):
        SelectionDisplay(results[1:2]).plot()
    with pytest.raises(ValueError, match="is a number"):
        SelectionDisplay([{"covariance_type": "full", "criterion": 1.0}]).plot()


# Paths ----------------------------------------------------------------------------------------------------------------


def shaded(display, number, n):
    """State of each row, read off the shades; -1 where there is none."""
    states = np.full(n, -1)
    for state, shade in display.shades_[number].items():
        for path in shade.get_paths():
            stretch = slice(*np.ceil([path.vertices[:, 0].min(), path.vertices[:, 0].max()]).astype(int))
            assert (path.vertices[:, 0] % 1.0 == 0.5).all()  # halfway between rows
            assert (states[stretch] == -1).all()
            states[stretch] = state
    return states


@pytest.mark.parametrize("form", ["list", "lengths", "groups", "scattered groups"])
def test_every_row_has_the_shade_of_its_state(form):
    tables = waves(50, 70, 30)
    tables[1][10:15] = np.nan
    lengths = [len(table) for table in tables]
    X, where, order = np.concatenate(tables), {}, np.arange(150)
    if form == "scattered groups":
        order = np.argsort(np.concatenate([np.arange(n) for n in lengths]), kind="stable")
    if "groups" in form:
        where["groups"] = np.repeat(["a", "b", "c"], lengths)[order]
    elif form == "lengths":
        where["lengths"] = lengths
    given = tables if form == "list" else X[order]
    fitted = EMHiddenMarkov(2, random_state=0).fit(given, **where)
    display = draw(StatePathDisplay.from_estimator(fitted, given, probabilities=True, **where))
    assert display.axes_.shape == (6, 1)
    for number, table in enumerate(tables):
        np.testing.assert_array_equal(display.lines_[number].get_ydata(), table[:, 0])
        np.testing.assert_array_equal(shaded(display, number, len(table)), fitted.predict(table))
        proba = fitted.predict_proba(table)
        tops = proba.cumsum(axis=1)
        for state, stack in enumerate(display.stacks_[number]):
            (path,) = stack.get_paths()
            seen = np.flatnonzero(proba[:, state] > 1e-3)
            edge = np.minimum(0.01, 0.25 * proba[seen, state])  # just within, and just beyond
            assert path.contains_points(np.column_stack([seen, tops[seen, state] - edge])).all()
            assert not path.contains_points(np.column_stack([seen, tops[seen, state] + edge])).any()
    names = [ax.get_title(loc="left") for ax in display.axes_[::2, 0]]
    assert names == [f"sequence {name}" for name in ("abc" if "groups" in form else "012")]


def test_of_many_sequences_some_are_drawn():
    tables = waves(*[45] * 6)
    fitted = EMHiddenMarkov(2, random_state=0).fit(tables)
    display = draw(StatePathDisplay.from_estimator(fitted, tables))
    assert display.axes_.shape == (4, 1)
    assert display.ax_.get_title(loc="right") == "2 more not shown"
    display = draw(StatePathDisplay.from_estimator(fitted, tables, sequences=[5, 1]))
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), tables[5][:, 0])
    for wrong, message in (([6], "6, but there are 6"), ([], "empty")):
        with pytest.raises(ValueError, match=message):
            display.plot(sequences=wrong)


def test_the_column_drawn_is_the_one_asked_for():
    frame = datasets.load_geyser(as_frame=True).data
    fitted = EMHiddenMarkov(2, random_state=0).fit(frame)
    display = draw(StatePathDisplay.from_estimator(fitted, frame, feature=frame.columns[1]))
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), frame.iloc[:, 1])
    assert display.ax_.get_ylabel() == frame.columns[1]
    with pytest.raises(ValueError, match="no column 'age'"):
        display.plot(feature="age")


def test_one_state_is_one_shade():
    fitted = EMHiddenMarkov(1, emission="poisson", random_state=0).fit(EARTHQUAKES)
    display = draw(StatePathDisplay.from_estimator(fitted, EARTHQUAKES, probabilities=True))
    assert not shaded(display, 0, len(EARTHQUAKES)).any()


def test_symbols_keep_their_names():
    X = [[word] for word in ["a", "b", None, "b", "c", "a"]]
    fitted = EMHiddenMarkov(2, emission="categorical", random_state=0).fit(X)
    display = draw(StatePathDisplay.from_estimator(fitted, X))
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["a", "b", "c"]
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), [0, 1, np.nan, 1, 2, 0])


class Blocks:
    """An iterable of arrays that can be begun anew."""

    def __iter__(self):
        yield EARTHQUAKES


def test_rows_read_in_blocks_are_refused(chain):
    with pytest.raises(ValueError, match="as arrays"):
        StatePathDisplay.from_estimator(chain, Blocks())


# Transitions ----------------------------------------------------------------------------------------------------------


def test_the_map_is_the_matrix(chain):
    display = draw(TransitionDisplay.from_estimator(chain, state_names=["calm", "restless"]))
    np.testing.assert_array_equal(display.image_.get_array(), chain.transmat_)
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["calm", "restless"]
    for (i, j), text in np.ndenumerate(display.texts_):
        assert text.get_position() == (j, i)
        assert abs(float(text.get_text()) - chain.transmat_[i, j]) <= 0.005
    with pytest.raises(ValueError, match="1 names, but there are 2 states"):
        TransitionDisplay.from_estimator(chain, state_names=["calm"])


def test_only_what_is_certain_is_written_so():
    transmat = np.array([[0.0, 1.0, 0.0], [0.004, 0.5, 0.496], [0.9951, 0.0049, 0.0]])
    display = draw(TransitionDisplay(transmat).plot())
    assert [text.get_text() for text in display.texts_.ravel()] == "0 1 0 <.01 .50 .50 >.99 <.01 0".split()


@pytest.mark.parametrize("k", [1, 5, 12])
def test_numbers_stay_within_their_cells(k):
    display = draw(TransitionDisplay(np.random.default_rng(0).dirichlet(np.full(k, 0.3), k)).plot())
    cell = display.ax_.get_window_extent().width / k
    assert display.texts_[0, 0].get_fontsize() >= 6.0
    assert all(text.get_window_extent().width < cell for text in display.texts_.ravel())


def test_where_there_is_no_room_no_numbers_are_written():
    transmat = np.full((60, 60), 1.0 / 60.0)
    assert draw(TransitionDisplay(transmat).plot()).texts_ is None
    assert TransitionDisplay(transmat).plot(include_values=True).texts_.shape == (60, 60)
