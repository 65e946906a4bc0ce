//! How much memory the node may use and how much it does: by its setting, by the cgroups it is in
//! (versions 1 and 2, as the kernel's documents `cgroup-v1/memory.rst` and `cgroup-v2.rst` describe
//! their files), by its resource limits, and by what the machine has left.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, getrlimit};

/// All that bounds the memory of this process.
#[derive(Debug)]
pub(crate) struct Ceilings {
    /// `limits.memory_bytes`, if that says something.
    setting: Option<u64>,
    groups: Vec<Group>,
    /// Where the kernel's files are: `/`, except in tests.
    root: PathBuf,
}

/// Bytes used, and how many may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) used: u64,
    pub(crate) limit: u64,
}

/// A cgroup that this process, or one that it is in, belongs to.
#[derive(Debug)]
struct Group {
    folder: PathBuf,
    files: &'static Files,
}

/// What a version of cgroups calls its files, and the lines of `stat` with what the kernel takes
/// back by itself.
#[derive(Debug)]
struct Files {
    limit: &'static str,
    used: &'static str,
    stat: &'static str,
    cache: [&'static str; 2],
}

const VERSION_1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    stat: "memory.stat",
    cache: ["total_inactive_file", "total_active_file"],
};

const VERSION_2: Files = Files {
    limit: "memory.max",
    used: "memory.current",
    stat: "memory.stat",
    cache: ["inactive_file", "active_file"],
};

/// Where their file systems are mounted, on all systems there are.
const MOUNT_1: &str = "sys/fs/cgroup/memory";
const MOUNTS_2: [&str; 2] = ["sys/fs/cgroup", "sys/fs/cgroup/unified"];

/// Pages of this process, from `/proc/self/statm`.
struct Pages {
    size: u64,
    resident: u64,
    data: u64,
}

impl Fill {
    /// How full it is; more than 1000 where the limit is lower than what there is already.
    pub(crate) fn thousandths(self) -> u64 {
        self.used.saturating_mul(1000).checked_div(self.limit).unwrap_or(u64::MAX)
    }
}

impl Ceilings {
    /// Those of this process; `setting` is the operator's own, 0 = none.
    pub(crate) fn find(setting: u64) -> Self {
        Self::find_in(Path::new("/"), setting)
    }

    fn find_in(root: &Path, setting: u64) -> Self {
        let table = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let path = |is_it: fn(&str) -> bool| {
            table.lines().find_map(|line| {
                let (_, line) = line.split_once(':')?;
                let (controllers, path) = line.split_once(':')?;
                is_it(controllers).then(|| path.trim_start_matches('/'))
            })
        };
        let is_memory = |names: &str| names.split(',').any(|name| name == "memory");
        let mut groups = Vec::new();
        if let Some(path) = path(is_memory) {
            groups.extend(Group::family(&root.join(MOUNT_1), path, &VERSION_1));
        }
        if let Some(path) = path(str::is_empty) {
            for mount in MOUNTS_2 {
                groups.extend(Group::family(&root.join(mount), path, &VERSION_2));
            }
        }
        let setting = (setting > 0).then_some(setting);
        Self { setting, groups, root: root.to_owned() }
    }

    /// The one that is nearest to being reached. None where the system tells nothing.
    pub(crate) fn fullest(&self) -> Option<Fill> {
        let pages = self.pages()?;
        let page = rustix::param::page_size() as u64;
        let resident = pages.resident * page;
        let own = self.setting.map(|limit| Fill { used: resident, limit });
        let groups = self.groups.iter().filter_map(Group::fill);
        // What others use is not ours to give back: the limit is what we have and what is left.
        let left = self.machine("MemAvailable:");
        let machine = left.map(|left| Fill { used: resident, limit: resident + left });
        let address_space = limited(Resource::As, pages.size * page);
        let data = limited(Resource::Data, pages.data * page);
        let all = own.into_iter().chain(groups).chain(machine).chain(address_space).chain(data);
        all.max_by_key(|fill| fill.thousandths())
    }

    /// The least of all limits that stand still.
    pub(crate) fn limit(&self) -> Option<u64> {
        let groups = self.groups.iter().filter_map(Group::limit);
        let limits =
            [Resource::As, Resource::Data].into_iter().filter_map(|one| getrlimit(one).current);
        self.setting.into_iter().chain(groups).chain(self.machine("MemTotal:")).chain(limits).min()
    }

    fn pages(&self) -> Option<Pages> {
        let table = fs::read_to_string(self.root.join("proc/self/statm")).ok()?;
        let mut fields = table.split_whitespace().map(|field| field.parse().ok());
        let size = fields.next()??;
        let resident = fields.next()??;
        // After shared, text and lib.
        let data = fields.nth(3)??;
        Some(Pages { size, resident, data })
    }

    /// Bytes that the machine has, by a line of `/proc/meminfo`.
    fn machine(&self, name: &str) -> Option<u64> {
        let table = fs::read_to_string(self.root.join("proc/meminfo")).ok()?;
        let line = table.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes * 1024)
    }
}

fn limited(resource: Resource, used: u64) -> Option<Fill> {
    getrlimit(resource).current.map(|limit| Fill { used, limit })
}

impl Group {
    /// The group at `path` and those it is in, up to where they are mounted: a container sees its
    /// own as the root, whatever the path says.
    fn family(mount: &Path, path: &str, files: &'static Files) -> Vec<Self> {
        let own = mount.join(path);
        let folders = own.ancestors().take_while(|folder| folder.starts_with(mount));
        let groups = folders.map(|folder| Self { folder: folder.to_owned(), files });
        groups.filter(|group| group.folder.join(files.limit).exists()).collect()
    }

    fn fill(&self) -> Option<Fill> {
        let limit = self.limit()?;
        let used = self.number(self.files.used)?;
        // The second file takes the kernel longer, and matters near the limit alone.
        if used < limit / 2 {
            return Some(Fill { used, limit });
        }
        Some(Fill { used: used.saturating_sub(self.cache()), limit })
    }

    /// Its limit; none when that is no number, or the largest there is.
    fn limit(&self) -> Option<u64> {
        self.number(self.files.limit).filter(|limit| *limit < UNLIMITED)
    }

    /// What it uses that the kernel takes back when it needs it.
    fn cache(&self) -> u64 {
        let table = fs::read_to_string(self.folder.join(self.files.stat)).unwrap_or_default();
        let lines = table.lines().filter_map(|line| line.split_once(' '));
        let cached = lines.filter(|(name, _)| self.files.cache.contains(name));
        cached.filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok()).sum()
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }
}

/// Version 1 says "no limit" by the largest multiple of a page.
const UNLIMITED: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A system with these files.
    fn system(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        let always = [
            ("proc/self/statm", "9000 100 50 10 0 300 0"),
            ("proc/meminfo", "MemTotal: 90000 kB\nMemAvailable:   40000 kB\n"),
        ];
        for (path, text) in always.iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn resident() -> u64 {
        100 * rustix::param::page_size() as u64
    }

    #[test]
    fn without_limits_it_is_what_the_machine_has_left() {
        let root = system(&[("proc/self/cgroup", "0::/user.slice\n")]);
        let ceilings = Ceilings::find_in(root.path(), 0);
        let limit = resident() + 40_000 * 1024;
        assert_eq!(ceilings.fullest(), Some(Fill { used: resident(), limit }));
        assert_eq!(ceilings.limit(), Some(90_000 * 1024));
        let ceilings = Ceilings::find_in(root.path(), 500_000);
        assert_eq!(ceilings.fullest(), Some(Fill { used: resident(), limit: 500_000 }));
        assert_eq!(ceilings.limit(), Some(500_000));
    }

    #[test]
    fn version_2_counts_every_group_above_and_no_cache() {
        let root = system(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "900000\n"),
            ("sys/fs/cgroup/a/memory.max", "1000000\n"),
            ("sys/fs/cgroup/a/memory.current", "950000\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 7\ninactive_file 30000\nactive_file 20000\n"),
        ]);
        let ceilings = Ceilings::find_in(root.path(), 0);
        assert_eq!(ceilings.fullest(), Some(Fill { used: 900_000, limit: 1_000_000 }));
        assert_eq!(ceilings.limit(), Some(1_000_000));
    }

    #[test]
    fn version_1_is_read_where_a_container_sees_it() {
        let root = system(&[
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "800000\n"),
            ("sys/fs/cgroup/memory/memory.stat", "cache 1\ntotal_inactive_file 100000\n"),
        ]);
        let ceilings = Ceilings::find_in(root.path(), 0);
        assert_eq!(ceilings.fullest(), Some(Fill { used: 700_000, limit: 1_000_000 }));
        let root = system(&[
            ("proc/self/cgroup", "4:memory:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(Ceilings::find_in(root.path(), 0).limit(), Some(90_000 * 1024));
    }

    #[test]
    fn this_system_tells_something() {
        let fill = Ceilings::find(0).fullest().expect("a system with /proc");
        assert!(fill.used > 0 && fill.limit > 0, "{fill:?}");
    }
}
