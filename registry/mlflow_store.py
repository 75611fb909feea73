"""The model registry on MLflow: a run with its artifacts for every trained release, versions and aliases of its two models.

A line's models are registered as `<line>-two_tower` and `<line>-ranker`. A release's own number is the tag
`livefeed.version`: it names the folders on the model server, which lines share, so it is unique over all lines, and it stays
right when a registration broke off between the two models.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from registry.errors import NotPassed, RegistryError, RegistryUnavailable, UnknownRelease
from registry.manifest import RANKER, TWO_TOWER, Manifest, write_manifest
from registry.verdict import Verdict

MODELS = (TWO_TOWER, RANKER)
CHAMPION, CHALLENGER = "champion", "challenger"
VERSION, CREATED, LINE = "livefeed.version", "livefeed.created_at", "livefeed.line"
ARTIFACTS = "release"
_MISSING = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
T = TypeVar("T")


class RegisteredRelease(Struct, frozen=True, kw_only=True):
    """One registered release; `aliases` are those both of its models have."""

    line: str
    version: int
    created_at: str
    run_id: str
    aliases: tuple[str, ...]

    @property
    def name(self) -> str:
        """Folder and log name of the release."""
        return f"{self.line}-{self.version}"


def model_name(line: str, model: str) -> str:
    """The name a line's model is registered under."""
    return f"{line}-{model}"


class MlflowRegistry:
    """Runs, versions and aliases in one MLflow; RegistryUnavailable whenever it does not answer."""

    def __init__(self, uri: str) -> None:
        # MLflow's own defaults retry for minutes; whoever calls here decides about retrying.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        self._uri = uri
        self._opened: Any = None

    @property
    def _client(self) -> Any:
        """MLflow's client, made when first used: its import takes seconds."""
        if self._opened is None:
            from mlflow.tracking import MlflowClient

            logging.getLogger("mlflow").setLevel(logging.WARNING)  # it narrates every wait of a version
            self._opened = MlflowClient(tracking_uri=self._uri)
        return self._opened

    def _ask(self, question: Callable[[Any], T], *, missing: str = "") -> T:
        """Ask MLflow; UnknownRelease with the sentence `missing` where there is no such thing."""
        from mlflow.exceptions import MlflowException

        try:
            return question(self._client)
        except (MlflowException, OSError) as error:
            code = getattr(error, "error_code", "")
            if missing and code in _MISSING:
                raise UnknownRelease(missing) from None
            if code in ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS"):
                raise RegistryError(f"MLflow at {self._uri} refused: {_first_line(error)}") from None
            raise RegistryUnavailable(f"MLflow at {self._uri} did not answer: {_first_line(error)}") from None

    def next_version(self, line: str) -> int:
        """The number for the next release of a line: one above every number given in any line."""
        return 1 + max((one.version for one in self._versions()), default=0)

    def register(self, candidate: Path, manifest: Manifest, figures: Mapping[str, float]) -> str:
        """Log a candidate's run (dials, figures, table versions, its whole folder) and its models' versions; the run's id.

        Writes the run's id into the candidate's manifest. Registering the same candidate again changes nothing.
        """
        held = {name: self._find(manifest, name) for name in MODELS}
        run_ids = [found.run_id for found in held.values() if found is not None]
        if len(run_ids) == len(MODELS):
            return str(run_ids[0])
        run_id = self._log_run(candidate, manifest, figures)
        for name in (name for name, found in held.items() if found is None):
            self._create_version(manifest, name, run_id)
        return run_id

    def _find(self, manifest: Manifest, model: str) -> Any:
        """The model version of this very candidate; RegistryError when the number belongs to another."""
        for found in self._search(f"name='{model_name(manifest.line, model)}'"):
            if found.tags.get(VERSION) == str(manifest.version):
                if found.tags.get(CREATED) != manifest.created_at:
                    raise RegistryError(
                        f"version {manifest.version} of line {manifest.line!r} is registered for the candidate of "
                        f"{found.tags.get(CREATED)}, not of {manifest.created_at}; train under version "
                        f"{self.next_version(manifest.line)}"
                    )
                return found
        return None

    def _log_run(self, candidate: Path, manifest: Manifest, figures: Mapping[str, float]) -> str:
        tags = {LINE: manifest.line, VERSION: str(manifest.version), CREATED: manifest.created_at}
        tags |= {"data_until": manifest.data_until} if manifest.data_until else {}
        experiment = self._experiment(manifest.line)
        run = self._ask(lambda client: client.create_run(experiment, run_name=manifest.name, tags=tags))
        run_id = str(run.info.run_id)
        self._log_figures(run, _params(manifest), {**manifest.metrics, **figures})
        write_manifest(candidate, msgspec.structs.replace(manifest, mlflow_run=run_id))
        self._ask(lambda client: client.log_artifacts(run_id, str(candidate), ARTIFACTS))
        self._ask(lambda client: client.set_terminated(run_id))
        return run_id

    def _log_figures(self, run: Any, params: Mapping[str, str], figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric, Param

        at = run.info.start_time
        metrics = [Metric(name, float(value), at, 0) for name, value in figures.items()]
        named = [Param(name, value) for name, value in params.items()]
        self._ask(lambda client: client.log_batch(run.info.run_id, metrics=metrics, params=named))

    def _experiment(self, line: str) -> str:
        found = self._ask(lambda client: client.get_experiment_by_name(line))
        return str(
            found.experiment_id if found is not None else self._ask(lambda client: client.create_experiment(line))
        )

    def _create_version(self, manifest: Manifest, model: str, run_id: str) -> None:
        name = model_name(manifest.line, model)
        if not self._ask(lambda client: client.search_registered_models(f"name='{name}'")):
            self._ask(lambda client: client.create_registered_model(name, tags={LINE: manifest.line}))
        tags = {VERSION: str(manifest.version), CREATED: manifest.created_at, LINE: manifest.line}
        source = f"runs:/{run_id}/{ARTIFACTS}/models/{model}"
        self._ask(lambda client: client.create_model_version(name, source=source, run_id=run_id, tags=tags))

    def alias(self, line: str, version: int, *, label: str = CHAMPION) -> None:
        """Point a label at the models of a release; UnknownRelease when it is not registered."""
        found = {model: self._version_of(line, version, model) for model in MODELS}
        for model, one in found.items():
            self._point(model_name(line, model), label, one.version)

    def challenge(self, line: str, version: int | None) -> None:
        """Point the line's challenger alias at a release; None takes it away. UnknownRelease when it is not registered."""
        if version is not None:
            self.alias(line, version, label=CHALLENGER)
            return
        for name in (model_name(line, model) for model in MODELS):
            self._unpoint(name, CHALLENGER)

    def _point(self, name: str, label: str, version: int) -> None:
        self._ask(lambda client: client.set_registered_model_alias(name, label, version))

    def _unpoint(self, name: str, label: str) -> None:
        held = self._ask(lambda client: client.search_registered_models(f"name='{name}'"))
        if any(label in model.aliases for model in held):
            self._ask(lambda client: client.delete_registered_model_alias(name, label))

    def _version_of(self, line: str, version: int, model: str) -> Any:
        of_model = self._search(f"name='{model_name(line, model)}'")
        found = [one for one in of_model if one.tags.get(VERSION) == str(version)]
        if not found:
            known = sorted(int(one.tags[VERSION]) for one in of_model if VERSION in one.tags)
            allowed = ", ".join(map(str, known)) or "none yet"
            raise UnknownRelease(f"{model} of line {line!r} has no version {version}; registered are {allowed}")
        return found[0]

    def promote(self, verdict: Verdict, *, line: str, version: int) -> None:
        """Make a release the line's champion; NotPassed for any verdict but a pass."""
        if not verdict.passed:
            raise NotPassed(
                f"{line}-{version} cannot be promoted: its verdict is {verdict.outcome} ({', '.join(verdict.reasons)}), "
                f"allowed is a pass"
            )
        self.alias(line, version)

    def releases(self, line: str | None = None) -> list[RegisteredRelease]:
        """Releases whose two models are both registered, newest first."""
        return sorted((one for one in self._versions() if line in (None, one.line)), key=lambda one: -one.version)

    def show(self, line: str, version: int) -> dict[str, Any]:
        """Parameters, metrics and tags of a release's run; UnknownRelease when it is not registered."""
        run_id = self._version_of(line, version, TWO_TOWER).run_id
        missing = f"run {run_id} of release {line}-{version} is gone from MLflow"
        run = self._ask(lambda client: client.get_run(run_id), missing=missing)
        tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
        return {"run_id": run_id, "params": dict(run.data.params), "metrics": dict(run.data.metrics), "tags": tags}

    def _search(self, query: str) -> list[Any]:
        return list(self._ask(lambda client: client.search_model_versions(query, max_results=10_000)))

    def _versions(self) -> list[RegisteredRelease]:
        """Every registered release of every line."""
        lines = {one.tags[LINE] for one in self._search("") if LINE in one.tags}
        return [release for line in sorted(lines) for release in self._releases_of(line)]

    def _releases_of(self, line: str) -> list[RegisteredRelease]:
        by_model = {model: self._search(f"name='{model_name(line, model)}'") for model in MODELS}
        aliases = {model: self._aliases(model_name(line, model)) for model in MODELS}
        numbers = {model: {int(one.tags[VERSION]): one for one in rows} for model, rows in by_model.items()}
        both = set.intersection(*(set(rows) for rows in numbers.values()))
        out = []
        for version in both:
            held = [aliases[model].get(int(numbers[model][version].version), frozenset()) for model in MODELS]
            one = numbers[TWO_TOWER][version]
            out.append(
                RegisteredRelease(
                    line=line, version=version, created_at=one.tags.get(CREATED, ""), run_id=str(one.run_id),
                    aliases=tuple(sorted(frozenset.intersection(*held))),
                )
            )  # fmt: skip
        return out

    def _aliases(self, name: str) -> dict[int, frozenset[str]]:
        """Aliases by MLflow's own version number."""
        out: dict[int, frozenset[str]] = {}
        for model in self._ask(lambda client: client.search_registered_models(f"name='{name}'")):
            for alias, version in model.aliases.items():
                out[int(version)] = out.get(int(version), frozenset()) | {alias}
        return out


def _params(manifest: Manifest) -> dict[str, str]:
    """What made the release, flat: dials, formula and table versions."""
    out = {f"{group}.{name}": str(value) for group, dials in manifest.dials.items() for name, value in dials.items()}
    out["formula"] = json.dumps(manifest.formula, sort_keys=True)
    return out | {f"table.{name}": str(version) for name, version in manifest.tables.items()}


def _first_line(error: Exception) -> str:
    """The reason without the connection's own story, which begins with the first nested exception."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return first.split(" failed with exception ")[0][:300]
