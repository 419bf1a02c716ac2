# shellcheck shell=bash
# Tries the sandbox of a unit from inside, instead of only rating it. Root makes the same attempts outside of any
# sandbox: those that succeed there show that the sandbox refuses them.

# Attempts that must succeed for root outside of the sandbox. The container itself refuses the others.
shown_at_least=45

# with_the_sandbox UNIT SETTING…: the installed unit with its drop-ins, and the probe as its program, so that it
# always matches the unit. The settings come last.
with_the_sandbox() {
    inside systemctl cat "$1" || return
    shift
    printf '%s\n' '' '[Service]' ExecStart= ExecReload= Restart=no WatchdogSec=0 "$@"
}
without_a_sandbox() { printf '%s\n' '[Service]' LimitCORE=infinity KeyringMode=shared "$@"; }

# probe NAME STATE_DIRECTORY FAMILY…: runs the probe in the unit from standard input, which allows these socket
# families. Its output is kept in the test's directory.
probe() {
    {
        cat
        printf '%s\n' Type=oneshot "StandardOutput=truncate:/run/$1.tried" \
            "ExecStart=/usr/bin/perl /usr/local/lib/probe /var/lib/${*:2}"
    } | inside tee "/run/systemd/system/$1.service" >/dev/null
    inside systemctl daemon-reload && inside systemctl start "$1.service" && inside cat "/run/$1.tried" >"$room/$1.tried"
}

# Files that must be hidden, and a process of another user.
lay_bait() {
    inside install -m 0755 /dev/stdin /usr/local/lib/probe <"$repository/tests/boot/probe"
    inside install -m 4755 /usr/bin/id /usr/local/lib/setuid-id
    inside sh -euc '
        install -d -m 0777 /home/probe
        echo secret | tee /home/probe/note /root/note /tmp/of-others /var/tmp/of-others >/dev/null
        chmod 0666 /home/probe/note /root/note /tmp/of-others /var/tmp/of-others
        systemd-run --quiet --unit=of-others --property=User=nobody sleep infinity
        systemctl show --property=MainPID --value of-others | tr -d "\n" >/run/of-others.pid'
}

# tried NAME: exactly the attempts that should be refused were refused.
tried() {
    local wanted attempt outcome control failures=0 shown=0
    while IFS=$'\t' read -r wanted attempt outcome; do
        control=$(awk -F '\t' -v attempt="$attempt" '$2 == attempt { print $3 }' "$room/control.tried")
        case $wanted/$outcome/$control in
        refused/done/*) printf '  FAILED: %s: not refused\n' "$attempt"; failures=$((failures + 1)) ;;
        refused/*/done) printf '  %s: refused (%s)\n' "$attempt" "$outcome"; shown=$((shown + 1)) ;;
        refused/*) printf '  %s: refused (%s); the device refuses it to root, too (%s)\n' "$attempt" "$outcome" "$control" ;;
        allowed/done/done) printf '  %s: allowed\n' "$attempt" ;;
        *) printf '  FAILED: %s: %s, and %s without the sandbox\n' "$attempt" "$outcome" "$control"; failures=$((failures + 1)) ;;
        esac
    done <"$room/$1.tried"
    same "$failures" 0 || return
    [ "$shown" -ge "$shown_at_least" ] || { echo "root succeeded at only $shown of the attempts outside of the sandbox"; return 1; }
}
