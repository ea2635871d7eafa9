//! Files on disk, and shelves: things kept in the order in which they came and found by id.

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::lock;

/// Things in the order in which they came, found by id.
#[derive(Debug)]
pub struct Shelf<T> {
    items: BTreeMap<u64, (String, Arc<T>)>,
    places: HashMap<String, u64>,
    next: u64,
}

impl<T> Default for Shelf<T> {
    fn default() -> Shelf<T> {
        Shelf { items: BTreeMap::new(), places: HashMap::new(), next: 0 }
    }
}

/// One page of a list.
#[derive(Debug)]
pub struct Page<T> {
    pub items: Vec<Arc<T>>,
    pub has_more: bool,
}

impl<T> Shelf<T> {
    pub fn put(&mut self, id: &str, item: Arc<T>) {
        self.places.insert(id.to_owned(), self.next);
        self.items.insert(self.next, (id.to_owned(), item));
        self.next += 1;
    }

    pub fn get(&self, id: &str) -> Option<Arc<T>> {
        let place = self.places.get(id)?;
        self.items.get(place).map(|(_, item)| item.clone())
    }

    pub fn remove(&mut self, id: &str) -> Option<Arc<T>> {
        let place = self.places.remove(id)?;
        self.items.remove(&place).map(|(_, item)| item)
    }

    /// Forgets the oldest things, so that at most `limit` remain.
    pub fn keep_newest(&mut self, limit: usize) {
        while self.items.len() > limit {
            let Some((_, (id, _))) = self.items.pop_first() else {
                return;
            };
            self.places.remove(&id);
        }
    }

    /// Up to `limit` things that `keep` accepts, after the thing called `after`. `None`: there is no such thing.
    pub fn page(
        &self,
        after: Option<&str>,
        limit: usize,
        newest_first: bool,
        keep: impl Fn(&T) -> bool,
    ) -> Option<Page<T>> {
        let after = match after {
            Some(id) => Some(*self.places.get(id)?),
            None => None,
        };
        let past = |place: u64| after.is_none_or(|after| if newest_first { place < after } else { place > after });
        let wanted = |(place, (_, item)): (&u64, &(String, Arc<T>))| (past(*place) && keep(item)).then(|| item.clone());
        let mut items: Vec<Arc<T>> = if newest_first {
            self.items.iter().rev().filter_map(wanted).take(limit + 1).collect()
        } else {
            self.items.iter().filter_map(wanted).take(limit + 1).collect()
        };
        let has_more = items.len() > limit;
        items.truncate(limit);
        Some(Page { items, has_more })
    }

    /// Newest first, the up to `limit` things just before the one called `before`. `None`: there is no such thing.
    pub fn page_before(&self, before: &str, limit: usize, keep: impl Fn(&T) -> bool) -> Option<Page<T>> {
        let before = *self.places.get(before)?;
        let newer = self.items.range(before + 1..).map(|(_, (_, item))| item);
        let mut items: Vec<Arc<T>> = newer.filter(|item| keep(item)).take(limit + 1).cloned().collect();
        let has_more = items.len() > limit;
        items.truncate(limit);
        items.reverse();
        Some(Page { items, has_more })
    }
}

/// A file that a client uploaded or a job wrote.
#[derive(Debug)]
pub struct StoredFile {
    pub id: String,
    pub filename: String,
    pub purpose: String,
    pub bytes: u64,
    /// Virtual unix seconds.
    pub created_at: i64,
    pub expires_at: Option<i64>,
    /// Whether the client asked for that expiry. A default of 30 days is shown but not carried out: on a fast clock it
    /// would pass while the client works.
    pub expires: bool,
    pub path: PathBuf,
}

/// Makes a folder, and those that it is in, for its owner alone, whatever the umask.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() || path.as_os_str().is_empty() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), make_folder)?;
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        // Another process was faster.
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => make_private(path),
    }
}

/// Gives a folder that was just made to its owner alone: a umask may have taken even the owner's rights away.
pub fn make_private(_folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    std::fs::set_permissions(_folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(())
}

/// Makes a file that only its owner can read, whatever the umask; one that is there is emptied.
pub fn create(path: &Path) -> io::Result<File> {
    open_private(path, OpenOptions::new().write(true).create(true).truncate(true))
}

/// As [`create`], but what is in the file stays.
pub fn open(path: &Path) -> io::Result<File> {
    open_private(path, OpenOptions::new().write(true).create(true).truncate(false))
}

fn open_private(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let file = options.mode(0o600).open(path)?;
        // A umask may have taken even the owner's rights away; a file that was there has a mode of its own.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

/// The files of all providers, their contents on disk.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    files: Mutex<Shelf<StoredFile>>,
}

impl Store {
    /// A store in `directory`, which is made if missing, for its owner alone; one that is there keeps its mode.
    pub fn new(directory: &Path) -> io::Result<Store> {
        make_folder(directory)?;
        Ok(Store { directory: directory.to_path_buf(), files: Mutex::default() })
    }

    /// Where the content of the file called `id` belongs.
    pub fn path(&self, id: &str) -> PathBuf {
        self.directory.join(id)
    }

    pub fn put(&self, file: StoredFile) -> Arc<StoredFile> {
        let file = Arc::new(file);
        lock(&self.files).put(&file.id, file.clone());
        file
    }

    /// The file called `id`, unless its time is over at `now`.
    pub fn get(&self, id: &str, now: f64) -> Option<Arc<StoredFile>> {
        lock(&self.files).get(id).filter(|file| is_alive(file, now))
    }

    /// Removes a file and its content.
    pub fn remove(&self, id: &str, now: f64) -> Option<Arc<StoredFile>> {
        let file = lock(&self.files).remove(id)?;
        // A download or a job that has it open reads on; a content that is already gone is what was wanted.
        let _ = std::fs::remove_file(&file.path);
        Some(file).filter(|file| is_alive(file, now))
    }

    pub fn page(
        &self,
        after: Option<&str>,
        limit: usize,
        newest_first: bool,
        purpose: Option<&str>,
        now: f64,
    ) -> Option<Page<StoredFile>> {
        let keep = |file: &StoredFile| is_alive(file, now) && purpose.is_none_or(|purpose| file.purpose == purpose);
        lock(&self.files).page(after, limit, newest_first, keep)
    }
}

fn is_alive(file: &StoredFile, now: f64) -> bool {
    !file.expires || file.expires_at.is_none_or(|end| now < end as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_both_ways() {
        let mut shelf = Shelf::default();
        for number in 0..5 {
            shelf.put(&number.to_string(), Arc::new(number));
        }
        let read = |after, limit, newest| {
            let page = shelf.page(after, limit, newest, |_| true).unwrap();
            (page.items.iter().map(|item| **item).collect::<Vec<i32>>(), page.has_more)
        };
        assert_eq!(read(None, 2, true), (vec![4, 3], true));
        assert_eq!(read(Some("3"), 3, true), (vec![2, 1, 0], false));
        assert_eq!(read(Some("3"), 3, false), (vec![4], false));
        assert!(shelf.page(Some("9"), 1, true, |_| true).is_none());
        let before = |id, limit| {
            let page = shelf.page_before(id, limit, |_| true).unwrap();
            (page.items.iter().map(|item| **item).collect::<Vec<i32>>(), page.has_more)
        };
        assert_eq!(before("1", 2), (vec![3, 2], true));
        assert_eq!(before("2", 2), (vec![4, 3], false));
    }
}
