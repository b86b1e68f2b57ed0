#pragma once

#include "diffuse/run/run_folder.hpp"
#include "diffuse/run/training_observer.hpp"

namespace diffuse {

/// Fills a run folder with what a training does: the resolved config, metrics.jsonl, previews (PNG grids of images, CSV
/// files of points) and checkpoints. Metrics are on disk before the checkpoint that follows them. Files of later steps
/// than the one that is resumed are cut or replaced. Logs what it writes, and shows how far the training is. Previews
/// are drawn on LibTorch's number of threads. `folder` must outlive the observer. Its functions throw Error with exit
/// code 1 when a file cannot be written.
TrainingObserver run_writer(const RunFolder& folder);

/// What every other process does where the first one has a `run_writer`: its share of the previews.
TrainingObserver preview_helper();

}  // namespace diffuse
