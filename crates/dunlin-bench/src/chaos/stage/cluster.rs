//! Three primaries with a replica each, which share the slots.

use anyhow::{Context, Result, ensure};

use super::{RedisServer, Stage};
use crate::chaos::resp::{Client, PATIENCE, Value};

/// What a server says of one of the cluster.
#[derive(Clone, Debug)]
struct Member {
    port: u16,
    is_well: bool,
    slots: Vec<(u16, u16)>,
}

impl Stage {
    pub(super) fn form_cluster(&mut self) -> Result<()> {
        let [first, ..] = &self.servers[..] else { return Ok(()) };
        for (number, server) in self.servers.iter().enumerate() {
            let epoch = (number + 1).to_string();
            server.call(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])?;
            if number < PRIMARIES {
                let share = |number: usize| SLOTS as usize * number / PRIMARIES;
                let (from, to) = (share(number), share(number + 1) - 1);
                let range = [from.to_string(), to.to_string()];
                server.call(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]])?;
            }
            if number > 0 {
                let port = server.address.port().to_string();
                first.call(&["CLUSTER", "MEET", "127.0.0.1", &port])?;
            }
        }
        self.wait_for("the cluster's servers to know one another", |stage| {
            let complete =
                |server| members(server).is_ok_and(|all| all.len() == stage.servers.len());
            Ok(stage.servers.iter().all(complete))
        })?;
        for (number, replica) in self.servers.iter().enumerate().skip(PRIMARIES) {
            let primary = self.servers[number - PRIMARIES].call(&["CLUSTER", "MYID"])?;
            let primary = primary.text().context("an id")?.to_owned();
            replica.call(&["CLUSTER", "REPLICATE", &primary])?;
        }
        self.wait_for("the cluster", |stage| Ok(stage.is_whole()))
    }

    /// Whether all servers say that all are well and work, every slot has one owner, and every
    /// replica has what its primary has.
    pub(crate) fn is_whole(&self) -> bool {
        let (mut primaries, mut replicas) = (0, 0);
        for server in &self.servers {
            let Ok(members) = members(server) else { return false };
            let owned = members.iter().flat_map(|it| &it.slots).map(|(from, to)| to - from + 1);
            // A primary that returns refuses everything for two seconds more.
            let works = server
                .call(&["CLUSTER", "INFO"])
                .is_ok_and(|info| info.text().unwrap_or_default().contains("cluster_state:ok"));
            if !works
                || members.len() != self.servers.len()
                || !members.iter().all(|member| member.is_well)
                || owned.sum::<u16>() != SLOTS
            {
                return false;
            }
            primaries += usize::from(server.is_primary());
            replicas += usize::from(server.is_linked());
        }
        primaries == PRIMARIES && replicas == self.servers.len() - PRIMARIES
    }

    /// The primaries by index, each with its first replica.
    pub(crate) fn shards(&self) -> Vec<(usize, Option<usize>)> {
        let replica_of = |primary: &RedisServer| {
            let port = primary.address.port().to_string();
            let follows = |server: &RedisServer| {
                server.info("replication", "master_port").is_ok_and(|it| it == port)
            };
            self.servers.iter().position(follows)
        };
        let servers = self.servers.iter().enumerate();
        let primaries = servers.filter(|(_, server)| server.is_primary() && owns_slots(server));
        primaries.map(|(index, server)| (index, replica_of(server))).collect()
    }

    /// Slots of a primary: those that hold keys first, at most so many.
    pub(crate) fn slots_with_keys(&self, primary: usize, most: usize) -> Result<Vec<u16>> {
        let mut client = Client::dial(self.servers[primary].address, PATIENCE)?;
        let own = own_slots(&self.servers[primary])?;
        let (mut used, mut empty) = (Vec::new(), Vec::new());
        for slot in own {
            let count = client.call(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()])?;
            if count == Value::Number(0) { empty.push(slot) } else { used.push(slot) }
        }
        used.extend(empty);
        used.truncate(most);
        Ok(used)
    }

    /// Moves a slot with its keys, as `redis-cli --cluster reshard` does. `ask` comes when all keys
    /// have moved and the slot has not.
    pub(crate) fn move_slot(
        &self,
        slot: u16,
        from: usize,
        to: usize,
        ask: impl FnOnce(),
    ) -> Result<()> {
        let mut source = Client::dial(self.servers[from].address, PATIENCE)?;
        let mut target = Client::dial(self.servers[to].address, PATIENCE)?;
        let (slot, port) = (slot.to_string(), self.servers[to].address.port().to_string());
        let id = |client: &mut Client| -> Result<String> {
            let id = client.call(&["CLUSTER", "MYID"])?;
            Ok(id.text().context("an id")?.to_owned())
        };
        let (source_id, target_id) = (id(&mut source)?, id(&mut target)?);
        target.call(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id])?;
        source.call(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id])?;
        loop {
            let keys = source.call(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"])?;
            let keys: Vec<&str> = keys.list().iter().filter_map(Value::text).collect();
            if keys.is_empty() {
                break;
            }
            let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            command.extend(keys);
            source.call(&command)?;
        }
        ask();
        // The new owner first, so that there is never none.
        target.call(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id])?;
        source.call(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id])?;
        Ok(())
    }
}

/// What a server knows of all members, itself among them.
fn members(server: &RedisServer) -> Result<Vec<Member>> {
    let nodes = server.call(&["CLUSTER", "NODES"])?;
    nodes.text().unwrap_or_default().lines().map(member).collect()
}

/// `id host:port@bus[,name] flags primary ping pong epoch link slots…`
fn member(line: &str) -> Result<Member> {
    let words: Vec<&str> = line.split(' ').collect();
    ensure!(words.len() >= 8, "not a line of CLUSTER NODES: {line}");
    let place = words[1].split('@').next().unwrap_or_default();
    let port = place.rsplit(':').next().and_then(|port| port.parse().ok()).context("a port")?;
    let flags: Vec<&str> = words[2].split(',').collect();
    let is_bad = |flag: &&str| ["fail", "fail?", "handshake", "noaddr"].contains(flag);
    let range = |word: &&str| {
        let (from, to) = word.split_once('-').unwrap_or((word, word));
        Some((from.parse().ok()?, to.parse().ok()?))
    };
    Ok(Member {
        port,
        is_well: !flags.iter().any(is_bad)
            && (words[7] == "connected" || flags.contains(&"myself")),
        slots: words[8..].iter().filter_map(range).collect(),
    })
}

fn own_slots(server: &RedisServer) -> Result<Vec<u16>> {
    let port = server.address.port();
    let own = members(server)?.into_iter().find(|member| member.port == port);
    let own = own.context("a server that does not know itself")?;
    Ok(own.slots.iter().flat_map(|&(from, to)| from..=to).collect())
}

fn owns_slots(server: &RedisServer) -> bool {
    own_slots(server).is_ok_and(|slots| !slots.is_empty())
}

const PRIMARIES: usize = 3;
const SLOTS: u16 = 16_384;
