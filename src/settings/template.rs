//! The commented settings file that `overtrace init` writes.

/// Every key at its default, explained.
pub const TEMPLATE: &str = r##"# overtrace.toml: what this project's owner decides. Every key may be left out; these are the defaults.
# Labels, plane, channels and [model] are fixed once there is a model
# (`overtrace round start --from-scratch` begins anew); the rest may change between rounds.

# The classes of a mask: the value in the file, a name, a colour. Background is always 0.
labels = [
  { value = 1, name = "CSF", color = "#4aa3ff" },
  { value = 2, name = "GM", color = "#57c785" },
  { value = 3, name = "WM", color = "#f2c14e" },
]

[image]
plane = "auto"            # slices across the thickest axis; or "sagittal", "coronal", "axial"
intensity = "zscore"      # over the non-zero voxels of each image; or "percentile", "ct", "none"
channels = 1              # images a case holds on one grid (T1 alone: 1; T1 and FLAIR: 2)

[model]
networks = ["u-net"]      # the paper's; or "voxresnet" (stacks of slices), "multi-scale" (three patches a pixel); up to
                          # four are a committee: they learn side by side and draw and rank together
slices = 1                # 3, 5, 7 or 9: sees the slices beside each, too
deep_supervision = false  # true: the U-shape network is taught at its lower levels, too
base_channels = 16        # how wide; 64 is what each was published with: the paper's has 31,030,788 parameters then

[training]
recipe = "paper"          # or "strong": with cross-entropy, foreground, poly, overlap,
without = []              # but those of them that are named here,
with = []                 # and, for long trainings, with augmentation, mirroring
loss = "dice"             # m - sum of Dice (the paper's Eq. 1); or "mse", "dice-ce" (with cross-entropy beside it)
ensemble = "seeds"        # a committee's members differ by first weights; "folds": each leaves out the cases that fall to it;
                          # "snapshots": one learns `steps`, the others keep what it was on the way
learning_rate = 0.0005    # of Adam; where a class is never found, try another
batch = 16                # 64x64 tiles a step
max_epochs = 500
patience = 30             # epochs without a better validation Dice before training stops
steps = 0                 # 0: as above; else exactly so many steps each time, for comparisons
seed = 1                  # of weights and shuffles
threads = 0               # 0 takes every core

[compute]
device = "auto"           # every GPU there is, else the CPU; or "cpu", "cuda:0", "cuda:0,cuda:1"
precision = "tf32"        # of training on a GPU; or "f32"
drawing_precision = "tf32" # of drawing on a GPU; or "f32", "bf16"
cuda_worker = ""          # whole path of the program that computes on GPUs; "" is overtrace-cuda beside overtrace

[query]
strategy = "average-bvsb" # lowest mean margin first (Eq. 2); or "entropy", "disagreement" (of a committee),
                          # "class-stratified", "foreground-random", "random"
pixels = "all"            # or "foreground": pixels whose best class is not background
budget = 1                # cases asked for in a round
diversity = false         # true: of the first 3 x budget those that differ most (with "random" as they come)
seed = 1                  # of random orders
target_dice = 0.0         # mean held-out Dice that ends the loop; 0 leaves that to the expert
train_when_complete = true # start training when the last queried case is back
control = ""              # folder of a project on the same cases that asks in a random order; rounds are held against it
beside = []               # folders of others on the same cases, whose Dice is drawn beside this one's

[effort]
tolerance_mm = 0.0        # how far a predicted contour may lie from the corrected one and still be shared

[inbox]
folder = "inbox"          # where corrected masks are dropped
stable_s = 3.0            # seconds a file must rest before it is read
incomplete_after_s = 600.0 # seconds after which an incomplete file is refused
rescan_s = 30.0           # seconds between looks when no event says to look

[store]
min_free_mb = 1024        # MB of the disk that are left free; twice what is written, where that is more
share_group = ""          # a group of this machine that may read hand-outs, drop masks and use the engine
network = false           # true: the project may lie on NFS, SMB or FUSE, whose locks and syncing cannot be relied on
"##;
