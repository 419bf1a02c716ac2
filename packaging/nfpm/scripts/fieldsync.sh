# shellcheck shell=sh disable=SC2034
# Names of the package fieldsync, in front of each of its maintainer scripts.

package=fieldsync
program=fieldsyncd
description="fieldsync daemon"
service=fieldsync.service
units="fieldsync.socket fieldsync.service"
# Whether a device starts it without an administrator who enables it.
starts_by_itself=yes
