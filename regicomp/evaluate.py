"""`python -m regicomp.evaluate`: measure a trained codec on any test sets."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from regicomp.config import measurement, resolvers, settings
from regicomp.launch import help, hydra_job
from regicomp.utils import cli

resolvers.register_resolvers()


def main() -> None:
    """Entry point."""
    if help.asked(sys.argv[1:]):
        print(help.text(help.EVALUATE))
    else:
        _composed()


@hydra.main(version_base="1.3", config_path=str(settings.conf_dir()), config_name="evaluate")
def _composed(cfg: DictConfig) -> None:
    with cli.told_in_one_line("no record was written"):
        resolved = measurement.resolve(cfg)
        cli.quiet_libraries()
        import torch

        from regicomp.data import testsets
        from regicomp.evaluation import measure, round_trip, workers
        from regicomp.image_codec import model_file, trust

        if resolved.threads is not None:
            torch.set_num_threads(resolved.threads)
        data, precision = resolved.data, resolved.precision
        measured = testsets.find(resolved.testsets, data.root, data.test_dirs, resolved.images)
        codec_file = Path(resolved.checkpoint)
        source_file = Path(resolved.source_checkpoint) if resolved.source_checkpoint else None
        trusted = trust.modules(resolved.trust)
        loaded = model_file.load_codec(codec_file, trusted)
        source = model_file.load_source(source_file, trusted).network if source_file else None
        codec = round_trip.Codec(loaded, precision)
        trained = workers.Files(codec_file, source_file, precision, trusted)
        timing = {"threads": torch.get_num_threads(), "workers": resolved.workers, "precision": precision}
        with workers.processes(resolved.workers, trained) as helpers:
            measure.measure(hydra_job.run_dir(), codec, source, measured, loaded.run, timing, helpers)


if __name__ == "__main__":
    main()
