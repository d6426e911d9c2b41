#!/bin/sh
# Runs as root while the image is made: the folder of the state must belong to the user of the service,
# also where a volume or the file of keys is mounted into it.
set -eu
install -d -o bentoml -g bentoml "$CREDIT_HOME"
