"""`python -m regicomp.evaluate`: measure a trained codec on any test sets."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from regicomp.config import checks, resolvers, settings
from regicomp.launch import hydra_job
from regicomp.utils import cli

resolvers.register_resolvers()


@hydra.main(version_base="1.3", config_path=str(settings.conf_dir()), config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    with cli.told_in_one_line():
        checks.check_evaluate(cfg)
        cli.quiet_libraries()
        import torch

        from regicomp.data import testsets
        from regicomp.evaluation import measure, round_trip, workers
        from regicomp.image_codec import model_file

        if cfg.threads is not None:
            torch.set_num_threads(cfg.threads)
        measured = testsets.find(cfg.testsets, cfg.data.root, cfg.data.test_dirs, cfg.images)
        loaded = model_file.load_codec(Path(cfg.checkpoint))
        source = model_file.load_source(Path(cfg.source_checkpoint)).network if cfg.source_checkpoint else None
        codec = round_trip.Codec(loaded, cfg.precision)
        source_file = Path(cfg.source_checkpoint) if cfg.source_checkpoint else None
        trained = workers.Files(Path(cfg.checkpoint), source_file, cfg.precision)
        timing = {"threads": torch.get_num_threads(), "workers": cfg.workers, "precision": cfg.precision}
        with workers.processes(cfg.workers, trained) as helpers:
            measure.measure(hydra_job.run_dir(), codec, source, measured, loaded.run, timing, helpers)


if __name__ == "__main__":
    main()
