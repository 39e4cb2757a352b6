"""The papers that schedules cite."""

CLR = "Smith, Cyclical Learning Rates for Training Neural Networks, arXiv 1506.01186"
SGDR = "Loshchilov & Hutter, SGDR, arXiv 1608.03983"
ONE_CYCLE = (
    "Smith & Topin, Super-Convergence, arXiv 1708.07120; "
    "Smith, A disciplined approach to neural network hyper-parameters, arXiv 1803.09820"
)
NONE = "no paper: elementary"
CAFFE = "Jia et al., Caffe, src/caffe/solvers/sgd_solver.cpp"
NOAM = "Vaswani et al., Attention Is All You Need, arXiv 1706.03762"
REX_PAPER = "Chen, Wolfe & Kyrillidis, REX, arXiv 2107.04197"
WSD = "Hägele et al., Scaling Laws Beyond Fixed Training Durations, arXiv 2405.18392"
KNEE_PAPER = "Iyer et al., Wide-minima Density Hypothesis, arXiv 2003.03977"
ULMFIT = "Howard & Ruder, ULMFiT, arXiv 1801.06146"
