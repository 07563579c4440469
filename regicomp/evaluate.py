"""`python -m regicomp.evaluate`: measure a trained codec on any test sets."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from regicomp import config, files, rules

config.register_resolvers()


@hydra.main(version_base="1.3", config_path=str(config.conf_dir()), config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    with files.told_in_one_line():
        rules.check_evaluate(cfg)
        config.quiet_libraries()
        import torch

        from regicomp import evaluation, export, measuring, parallel
        from regicomp.data import testsets

        if cfg.threads is not None:
            torch.set_num_threads(cfg.threads)
        measured = testsets.find(cfg.testsets, cfg.data.root, cfg.data.test_dirs, cfg.images)
        loaded = export.load_codec(Path(cfg.checkpoint))
        source = export.load_source(Path(cfg.source_checkpoint)).network if cfg.source_checkpoint else None
        codec = evaluation.Codec(loaded, cfg.precision)
        source_file = Path(cfg.source_checkpoint) if cfg.source_checkpoint else None
        trained = parallel.Files(Path(cfg.checkpoint), source_file, cfg.precision)
        timing = {"threads": torch.get_num_threads(), "workers": cfg.workers, "precision": cfg.precision}
        with parallel.processes(cfg.workers, trained) as helpers:
            measuring.measure(config.run_dir(), codec, source, measured, loaded.run, timing, helpers)


if __name__ == "__main__":
    main()
