#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# An image for opcodes.c, whose head says goal and method. usage: opcodes.sh PROGRAM
NO_FUSE_NEEDED=1
. "$(dirname "$0")/lib.sh"
make_image "$T/img" 128M
"$1" "$T/img"
