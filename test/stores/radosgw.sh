#!/usr/bin/env bash
# A single-node Ceph object store on loopback for tests: one mon, one osd, one radosgw; no systemd, mgr or cephx.
#   radosgw.sh start DIR RGW_PORT MON_PORT   makes a fresh store in DIR; returns when radosgw answers
#   radosgw.sh user DIR ACCESS SECRET        adds a user
#   radosgw.sh stop DIR                      ends what `start` began, by the pid files in DIR
# RADOSGW_GIB is its size (16; a full one hangs). Debian packages: radosgw ceph-mon ceph-osd curl.
set -euo pipefail

verb=${1:?start, user or stop}
dir=$(mkdir -p "${2:?folder}" && cd "$2" && pwd)
conf=$dir/ceph.conf

configure() { # fsid rgw-port mon-port
  cat >"$conf" <<CONF
[global]
fsid = $1
mon initial members = a
# Only msgr v1: with v2 the osd loses the mon on a machine without a cluster network.
mon host = v1:127.0.0.1:$3
ms bind msgr2 = false
ms bind ipv6 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
run dir = $dir/run
admin socket = $dir/run/\$name.\$pid.asok
log file = $dir/log/\$name.log
# One copy on one osd, with few placement groups.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 0
# The defaults wait a second for company before each decision of the mon: 14 s of start-up instead of 3.
paxos propose interval = 0.02
paxos min wait = 0.01
[mon.a]
mon data = $dir/mon
mon addr = 127.0.0.1:$3
[osd]
osd data = $dir/osd.\$id
# On disk, so that a test can search what was stored: one sparse file, neither compressed nor encrypted by itself.
osd objectstore = bluestore
bluestore block create = true
bluestore block size = $((${RADOSGW_GIB:-16} << 30))
osd memory target = $((1 << 30))
[client.rgw.a]
rgw data = $dir/rgw
rgw frontends = beast endpoint=127.0.0.1:$2 tcp_nodelay=1
rgw dns name = localhost
# Deleted data would fill the disk.
rgw gc obj min wait = 5
rgw gc processor period = 10
rgw dynamic resharding = false
CONF
}

ceph_() { ceph -c "$conf" --connect-timeout 15 "$@"; }

start_osd() {
  # The first start can lose a race with the mon ("wrong fsid").
  for _ in 1 2 3 4 5; do
    ceph-osd -c "$conf" -i 0 --pid-file "$dir/osd.pid" >>"$dir/log/osd.out" 2>&1 || { sleep 0.3; continue; }
    for _ in $(seq 60); do
      ceph_ osd stat 2>/dev/null | grep -q '1 up' && return
      sleep 0.1
    done
  done
  echo "the osd did not come up; see $dir/log" >&2
  exit 1
}

start() { # rgw-port mon-port
  local fsid osd
  mkdir -p "$dir"/{mon,osd.0,rgw,run,log}
  fsid=$(cat /proc/sys/kernel/random/uuid)
  osd=$(cat /proc/sys/kernel/random/uuid)
  configure "$fsid" "$1" "$2"
  ceph-authtool --create-keyring "$dir/keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
  monmaptool --create --fsid "$fsid" --addv a "[v1:127.0.0.1:$2]" "$dir/monmap" >/dev/null
  ceph-mon -c "$conf" -i a --mkfs --monmap "$dir/monmap" --keyring "$dir/keyring" >/dev/null
  ceph-mon -c "$conf" -i a --pid-file "$dir/mon.pid" >>"$dir/log/mon.out" 2>&1
  # The mon answers EPERM until it has a quorum with itself. Asking again for the same uuid changes nothing.
  for _ in $(seq 50); do
    ceph_ osd new "$osd" >/dev/null 2>>"$dir/log/mon.out" && break
    sleep 0.2
  done
  ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$osd" >>"$dir/log/osd.out" 2>&1
  start_osd
  # radosgw 16 aborts on some requests: it is started again until `stop`.
  setsid bash -c '
    echo $$ >"$0/loop.pid"
    trap "kill -9 \$rgw; exit" TERM
    while :; do
      radosgw -f -c "$0/ceph.conf" -n client.rgw.a >>"$0/log/rgw.out" 2>&1 & rgw=$!
      wait $rgw
      sleep 0.5
    done' "$dir" </dev/null >/dev/null 2>&1 &
  for _ in $(seq 300); do
    curl -fsS -o /dev/null "http://127.0.0.1:$1/" 2>/dev/null && return
    sleep 0.1
  done
  echo "radosgw did not answer; see $dir/log" >&2
  exit 1
}

stop() {
  for name in loop osd mon; do
    [ -f "$dir/$name.pid" ] || continue
    pid=$(cat "$dir/$name.pid")
    kill "$pid" 2>/dev/null || continue
    for _ in $(seq 50); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
  done
}

case $verb in
  start) start "${3:?port of radosgw}" "${4:?port of the mon}" ;;
  user)
    radosgw-admin -c "$conf" -n client.rgw.a user create --uid="u-${3:?access key}" --display-name="$3" \
      --access-key="$3" --secret-key="${4:?secret key}" --max-buckets=100000 >/dev/null 2>>"$dir/log/admin.err"
    ;;
  stop) stop ;;
  *) echo 'start, user or stop' >&2; exit 2 ;;
esac
