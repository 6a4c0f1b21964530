"""Every field of an experiment, with its unit. Other configs start from this one."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
  """The default values."""
  config = ConfigDict()
  config.seed = 0  # determines members' weights, order of the data, augmentation
  config.dtype = "auto"  # activations: float32, bfloat16; auto = bfloat16 on GPU and TPU

  config.data = ConfigDict()
  config.data.name = "digits"  # digits, cifar10, cifar100, image_folder
  config.data.dir = ""  # folder of the data set; "" = ~/.cache/dissim_jax for CIFAR
  config.data.image_size = 32  # pixels a side that images of an image_folder are resized to
  config.data.background = 128  # grey level 0..255 behind transparent pixels of an image_folder
  config.data.validation = 0  # training images held out for validation
  config.data.split_seed = 0  # which ones (and which digits are for training)
  config.data.train_per_class = 10  # digits only: training images of each class
  config.data.images_per_class = 0  # training images used of each class, by split_seed; 0 = all
  config.data.resident_gib = 4.0  # a larger training set is sent to the devices block by block
  config.data.mean = (0.5,)  # per channel, of images in 0..1
  config.data.std = (0.5,)  # per channel, of images in 0..1

  config.augment = ConfigDict()
  config.augment.crop_padding = 0  # pixels of padding before a random crop; 0 = off
  config.augment.crop_fill = 0  # grey level of the padding, 0..255
  config.augment.flip = False  # horizontal flip of half the images
  config.augment.autoaugment = "none"  # none, cifar10 (Cubuk et al. 2019)
  config.augment.autoaugment_fill = 128  # grey level outside a warped image, 0..255
  config.augment.cutout = 0  # pixels a side of the square that is cut out; 0 = off
  config.augment.cutout_fill = 0  # its grey level, 0..255

  config.model = ConfigDict()
  config.model.name = "resnet14"  # a name in dissim_jax.models.MODELS
  config.model.width_multiplier = 1.0  # scales the features of every layer
  config.model.stem = 0  # image size the first layers are made for: 8, 32, 224; 0 = the nearest
  config.model.patch_size = 0  # pixels a side, of architectures with patches; 0 = by the stem

  config.ensemble = ConfigDict()
  config.ensemble.size = 2  # members of the sequence, the first is not regularised
  config.ensemble.teachers = ()  # member folders of other runs that are the first members
  config.ensemble.baseline = True  # also train independent members, to compare with
  config.ensemble.models = ()  # architecture of each member, if not all model.name
  config.ensemble.compare = ()  # objectives of further ensembles of this size, trained jointly

  config.objective = ConfigDict()
  config.objective.name = "sequential"  # distill: from member 0; jointly: a name in JOINT
  config.objective.weight = 0.2  # lambda of the objectives of members trained jointly
  config.objective.teacher_share = 0.5  # distill: share of the teacher's hard labels in the loss

  config.dissim = ConfigDict()
  config.dissim.metric = "expvar"  # a name in dissim_jax.similarity.PENALTIES
  config.dissim.taps = (3,)  # where members are made dissimilar; mean over taps
  config.dissim.match = "depth"  # which tap of a teacher of another architecture; or: name
  config.dissim.weight = 1.0  # lambda; 0 = independent members
  config.dissim.warmup_start_epoch = 0  # epochs before lambda starts to rise
  config.dissim.warmup_steps = 0  # steps in which a cosine takes lambda from 0 to weight
  config.dissim.combine = "concatenate"  # several teachers without projection; or: mean
  config.dissim.options = ConfigDict()  # keyword arguments of each measure
  config.dissim.options.expvar = ConfigDict({"alpha": 1.0, "eps": 1e-4})  # CELU, denominator
  config.dissim.options.l2corr = ConfigDict()
  config.dissim.options.l2corr_squared = ConfigDict()
  config.dissim.options.lincka = ConfigDict()
  config.dissim.options.lincka.unbiased = True  # Eq. 13; False is the biased HSIC
  config.dissim.options.lincka.samples = "example"  # or position: every place is a sample
  config.dissim.options.lincka_position = ConfigDict()
  config.dissim.options.rbfcka = ConfigDict()
  config.dissim.options.rbfcka.bandwidth = 0.8  # of the kernel, fraction of the median distance
  config.dissim.options.rbfcka.unbiased = True  # False is the biased HSIC
  config.dissim.options.rbfcka.samples = "example"  # or position: every place is a sample
  config.dissim.options.cca = ConfigDict()
  config.dissim.options.cca_squared = ConfigDict()
  config.dissim.options.r2 = ConfigDict()
  config.dissim.options.r2.weighting = "channel"  # mean over channels; variance: by their variance
  config.dissim.options.procrustes = ConfigDict()
  config.dissim.options.rsa = ConfigDict()
  config.dissim.options.rsa.distance = "correlation"  # of two examples' features; or: euclidean
  config.dissim.options.relative = ConfigDict()
  config.dissim.options.relative.centered = False  # True: subtract the batch's mean first

  config.dissim.projection = ConfigDict()
  config.dissim.projection.name = "least_squares"  # or learned; LinCKA needs none
  config.dissim.projection.ridge = 1e-3  # least_squares: fraction of the mean channel variance
  config.dissim.projection.inner_steps = 1  # learned: projection steps a member step
  config.dissim.projection.optimizer = ConfigDict()  # learned: None = as the member's
  config.dissim.projection.optimizer.name = placeholder(str)  # as the member's
  config.dissim.projection.optimizer.learning_rate = placeholder(float)  # as the member's
  config.dissim.projection.optimizer.warmup_epochs = placeholder(float)  # as the member's
  config.dissim.projection.optimizer.momentum = placeholder(float)  # as the member's
  config.dissim.projection.optimizer.nesterov = placeholder(bool)  # as the member's
  config.dissim.projection.optimizer.b2 = placeholder(float)  # as the member's
  config.dissim.projection.optimizer.weight_decay = placeholder(float)  # as the member's

  config.optimizer = ConfigDict()  # cosine to zero
  config.optimizer.name = "sgd"  # or adamw, for networks without batch norm
  config.optimizer.learning_rate = 0.1  # at the highest
  config.optimizer.warmup_epochs = 0.0  # epochs in which it rises from 0 to there
  config.optimizer.momentum = 0.9  # 0..1; of adamw: b1
  config.optimizer.nesterov = True  # look-ahead form of momentum
  config.optimizer.b2 = 0.999  # 0..1; of adamw: decay of the mean square
  config.optimizer.weight_decay = 5e-4  # on all parameters; of adamw times the learning rate

  config.train = ConfigDict()
  config.train.batch_size = 50  # images, over all devices
  config.train.epochs = 100  # passes over the training images, for each member
  config.train.steps_per_dispatch = 0  # steps sent to the device at once; 0 = by platform
  config.train.checkpoint_every_epochs = 20  # and after the last epoch
  config.train.keep_checkpoints = 2  # newest states kept on disk
  config.train.monitor_images = 1000  # images for the least-squares R^2 after each epoch

  config.evaluate = ConfigDict()
  config.evaluate.batch_size = 128  # images; also the minibatch of LinCKA
  config.evaluate.ensemble_rule = "probs"  # mean of these; or logits, median, geometric, vote
  config.evaluate.calibration_bins = 15  # equal-width bins of the calibration error

  config.corruption = ConfigDict()  # members and ensembles on corrupted test images
  config.corruption.names = ()  # names in evaluate.corruptions.CORRUPTIONS, or all
  config.corruption.severities = (1, 2, 3, 4, 5)  # 1-5 are the published levels, 0 = none
  config.corruption.seed = 0  # determines where and how images are corrupted

  config.transfer = ConfigDict()  # whether images that fool one member fool the others
  config.transfer.attack = "none"  # a name in dissim_jax.attacks.ATTACKS
  config.transfer.epsilon = 8 / 255  # largest change of a pixel, of images in 0..1
  config.transfer.step_size = 2 / 255  # change in one iteration
  config.transfer.iterations = 50  # of pgd and momentum_pgd
  config.transfer.random_start = True  # anywhere in the ball; False = at the image
  config.transfer.momentum = 1.0  # of momentum_pgd: decay of the accumulated gradient
  config.transfer.images = 1000  # test images, as many of every class
  config.transfer.floor = 0.01  # eps_s, per cent of images: what a similarity of nothing counts as
  config.transfer.seed = 0  # determines random starts

  config.attribution = ConfigDict()  # which pixels members decide by, on test images
  config.attribution.method = "none"  # none, saliency, integrated_gradients
  config.attribution.steps = 512  # integrated_gradients: points on the line from black
  config.attribution.images = 500  # test images, as many of every class

  config.features = ConfigDict()  # what the last representations of two members hold together
  config.features.shares = ()  # of the first member's features, 0..1; () = not done
  config.features.dimensions = ()  # features kept; () = powers of two
  config.features.images = 10_000  # training images that classifiers are fitted on
  config.features.draws = 5  # random choices of features
  config.features.regularisation = 1.0  # C of scikit-learn's logistic regression
  config.features.max_iter = 1000  # of L-BFGS

  config.stitch = ConfigDict()  # joining the lower half of one member to the upper half of another
  config.stitch.experiments = ()  # names in evaluate.stitch_experiments.EXPERIMENTS, or all
  config.stitch.pairs = ()  # "source:target"; () = the first member to every other
  config.stitch.taps = ()  # where to join; () = every tap
  config.stitch.resize = False  # whether a source tap of another spatial size is resized
  config.stitch.ridge = 0.0  # of least squares: fraction of the mean channel variance
  config.stitch.labels = "soft"  # task loss aims at the target's probabilities, or hard: at labels
  config.stitch.start = "least_squares"  # of task loss; or random, identity
  config.stitch.epochs = 30  # passes over the training images, for each stitch
  config.stitch.batch_size = 128  # images, over all devices
  config.stitch.learning_rate = 1e-3  # of Adam
  config.stitch.decay_epochs = (10, 20)  # after these the learning rate is divided by ten
  config.stitch.steps_per_dispatch = 0  # steps sent to the device at once; 0 = by platform
  config.stitch.widths = ()  # experiment width: width multipliers beside model.width_multiplier
  config.stitch.cka_weight = 1.0  # experiment low_cka: weight of the CKA in the loss
  config.stitch.starts = 5  # experiments initialisation, connectivity: starts of each kind
  config.stitch.connected_points = 9  # experiment connectivity: points from one to the other
  config.stitch.connected_accuracy = 0.8  # least relative accuracy of a solution that is used
  config.stitch.l1_direct = (0.001, 0.003, 0.01, 0.03, 0.1)  # shares of what makes all zero
  config.stitch.l1_task = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # weights of the sum of |entries|
  config.stitch.ranks = (4, 8, 16)  # experiment low_rank
  return config
