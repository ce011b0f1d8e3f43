"""The same work as the bench, by the Python IDL of Open vSwitch.

usage: idl.py REMOTE SCHEMA add-all|add-each|del-all|hold N
Prints seconds, without those to start and to fetch the database; `hold`
prints the growth of its memory by the replica, in kB.
"""
import sys
import time

import ovs.poller
from ovs.db import idl

remote, schema, verb, n = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])


def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


helper = idl.SchemaHelper(schema)
for table in ("Open_vSwitch", "Bridge", "Port", "Interface"):
    helper.register_table(table)
before = resident()
db = idl.Idl(remote, helper)
while not db.has_ever_connected():
    if not db.run():
        poller = ovs.poller.Poller()
        db.wait(poller)
        poller.block()

bridge = next(row for row in db.tables["Bridge"].rows.values() if row.name == "br0")


def commit(work):
    txn = idl.Transaction(db)
    work(txn)
    status = txn.commit_block()
    assert status == idl.Transaction.SUCCESS, status


def add(txn, i):
    interface = txn.insert(db.tables["Interface"])
    interface.name = "p%d" % i
    interface.type = "internal"
    port = txn.insert(db.tables["Port"])
    port.name = "p%d" % i
    port.interfaces = [interface]
    bridge.addvalue("ports", port)


start = time.monotonic()
if verb == "add-all":
    commit(lambda txn: [add(txn, i) for i in range(n)])
elif verb == "add-each":
    for i in range(n):
        commit(lambda txn: add(txn, i))
elif verb == "del-all":
    keep = [port for port in bridge.ports if port.name == "br0"]
    gone = [port for port in bridge.ports if port.name != "br0"]
    commit(lambda txn: [bridge.delvalue("ports", port) for port in gone])
if verb == "hold":
    assert len(db.tables["Port"].rows) == n + 1
    print(resident() - before)
else:
    print(time.monotonic() - start)
