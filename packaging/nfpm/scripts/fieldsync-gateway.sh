# shellcheck shell=sh disable=SC2034
# Names of the package fieldsync-gateway, in front of each of its maintainer scripts.

package=fieldsync-gateway
program=fieldsync-gateway
description="fieldsync gateway"
service=fieldsync-gateway.service
units="fieldsync-gateway.service"
# Whether a device starts it without an administrator who enables it.
starts_by_itself=no
