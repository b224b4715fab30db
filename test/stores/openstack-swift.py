"""OpenStack Swift with its s3api on loopback for tests: account, container, object and proxy server, one copy of all.

    /usr/bin/python3 openstack-swift.py DIR ACCESS SECRET PROXY_PORT ACCOUNT_PORT CONTAINER_PORT OBJECT_PORT

A fresh store in DIR, whose file system has extended attributes. Runs until SIGTERM, or until one of the four ends.
Debian package: python3-swift, which holds all the servers. No memcached, no replicators, no auditors.
"""
import ctypes
import os
import pwd
import signal
import sys

from swift.common.utils import set_swift_dir

DIR, ACCESS, SECRET = sys.argv[1:4]
PORTS = dict(zip(("proxy", "account", "container", "object"), sys.argv[4:8]))

COMMON = """
[swift-hash]
swift_hash_path_suffix = test
[storage-policy:0]
name = one
default = yes
[swift-constraints]
# One value of metadata holds an envelope of up to 896 characters; S3 allows 2 KB in all (the default is 256 for a value).
max_meta_value_length = 2048
max_meta_overall_size = 8192
"""

DEFAULTS = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
devices = {folder}
mount_check = false
swift_dir = {folder}
user = {user}
log_address = {folder}/no-syslog
"""

BACKEND = """
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""

PROXY = """
[pipeline:main]
pipeline = catch_errors cache s3api tempauth bulk slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
# A server that did not answer yet, ten times over, would count as gone for a minute.
error_suppression_interval = 0
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
# Nobody listens there.
memcache_servers = 127.0.0.1:1
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
# The gateway's last part has the highest number that there is; the default is 1,000.
max_upload_part_num = 10000
max_parts_listing = 10000
[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{user} = {secret} .admin
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
[filter:dlo]
use = egg:swift#dlo
"""


def write(name, text):
    with open(os.path.join(DIR, name), "w", encoding="utf-8") as file:
        file.write(text)


def configure():
    account, user = ACCESS.split(":")
    for name, port in PORTS.items():
        defaults = DEFAULTS.format(port=port, folder=DIR, user=pwd.getpwuid(os.getuid()).pw_name)
        rest = BACKEND.format(name=name) if name != "proxy" else PROXY.format(account=account, user=user, secret=SECRET)
        write(f"{name}.conf", defaults + rest)


def make_rings():
    os.mkdir(os.path.join(DIR, "disk"))
    for name in ("account", "container", "object"):
        builder = RingBuilder(part_power=2, replicas=1, min_part_hours=0)
        place = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(PORTS[name]), "device": "disk", "weight": 1}
        builder.add_dev({**place, "replication_ip": place["ip"], "replication_port": place["port"]})
        builder.rebalance()
        builder.get_ring().save(os.path.join(DIR, f"{name}.ring.gz"))


def serve(name):
    # Ends with its parent, whichever way that ends (PR_SET_PDEATHSIG).
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    status = run_wsgi(os.path.join(DIR, f"{name}.conf"), f"{name}-server", verbose=True, log_to_console=True)
    sys.exit(f"{name}: ended with {status}")


write("swift.conf", COMMON)
set_swift_dir(DIR)
# These read swift.conf when they are imported.
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.wsgi import run_wsgi  # noqa: E402

configure()
make_rings()
for server in PORTS:
    if os.fork() == 0:
        serve(server)
os.wait()
sys.exit("one of the servers has ended")
