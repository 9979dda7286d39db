"""llama.cpp's own server, of the library that xllamacpp is: a model's path, and a port of loopback."""

import signal
import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[2])
params.n_parallel = 2
params.offline = True
server = xllamacpp.Server(params)
signal.pause()
