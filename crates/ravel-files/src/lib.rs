//! Files that are written whole or not at all: a temporary file beside the target, fsync, rename, fsync of the folder.

use std::fs::File;
use std::io::{Error, ErrorKind, Result, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

/// Writes a file whole or not at all. One that is there already is replaced only with `replace`.
///
/// # Errors
/// As [`WholeFile`]'s.
pub fn write_whole(path: &Path, bytes: &[u8], replace: bool) -> Result<()> {
    let mut file = WholeFile::create(path, replace)?;
    file.file().write_all(bytes)?;
    file.commit()
}

/// A file that grows beside its place and takes it when it is whole. Dropped before that, it leaves nothing.
///
/// It gets the permissions that any new file gets here (the umask's), not those of a temporary one.
#[derive(Debug)]
pub struct WholeFile {
    file: NamedTempFile,
    path: PathBuf,
    replace: bool,
}

impl WholeFile {
    /// A file that is to be at `path`, in place of one that is there if `replace` is set.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is a file and `replace` is not set, [`ErrorKind::InvalidInput`] if there is something
    /// that is no file; what the system reports otherwise, worded without the name of the temporary file.
    pub fn create(path: &Path, replace: bool) -> Result<Self> {
        if let Ok(there) = path.metadata() {
            if !there.is_file() {
                let line = "there is a folder or a device, a file is expected";
                return Err(Error::new(ErrorKind::InvalidInput, line));
            }
            if !replace {
                return Err(ErrorKind::AlreadyExists.into());
            }
        }
        let folder = folder_of(path);
        let file = builder()
            .tempfile_in(folder)
            .map_err(|error| about_folder(folder, &error))?;
        Ok(Self {
            file,
            path: path.into(),
            replace,
        })
    }

    /// Where to write.
    pub fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Puts the file in its place, on the disk.
    ///
    /// # Errors
    /// As [`WholeFile::create`]; the place is then as it was.
    pub fn commit(self) -> Result<()> {
        self.file.as_file().sync_all()?;
        let kept = match self.replace {
            true => self.file.persist(&self.path),
            false => self.file.persist_noclobber(&self.path),
        };
        kept.map_err(|error| error.error)?;
        sync_folder(folder_of(&self.path))
    }
}

/// A folder that is filled beside its place and takes it when it is whole. Dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct WholeFolder {
    folder: TempDir,
    path: PathBuf,
}

impl WholeFolder {
    /// A folder that is to be at `path`. Where there is one with files in it, those of the same names are replaced if `replace`
    /// is set.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is something, an empty folder excepted, and `replace` is not set;
    /// [`ErrorKind::NotADirectory`] if there is a file; what the system reports otherwise.
    pub fn create(path: &Path, replace: bool) -> Result<Self> {
        if path.exists() && !path.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        if !replace && path.is_dir() && path.read_dir()?.next().is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let above = folder_of(path);
        let folder = folder_builder()
            .tempdir_in(above)
            .map_err(|error| about_folder(above, &error))?;
        Ok(Self {
            folder,
            path: path.into(),
        })
    }

    /// Writes a file into the folder.
    ///
    /// # Errors
    /// What the system reports.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = File::create(self.folder.path().join(name))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Puts the folder in its place; into a folder that has files already, its files one by one.
    ///
    /// # Errors
    /// What the system reports.
    pub fn commit(self) -> Result<()> {
        let from = self.folder.path();
        sync_folder(from)?;
        let filled = self.path.is_dir() && self.path.read_dir()?.next().is_some();
        if filled {
            for entry in from.read_dir()? {
                let entry = entry?;
                std::fs::rename(entry.path(), self.path.join(entry.file_name()))?;
            }
            return sync_folder(&self.path);
        }
        if cfg!(windows) && self.path.is_dir() {
            std::fs::remove_dir(&self.path)?;
        }
        std::fs::rename(from, &self.path)?;
        let _ = self.folder.keep(); // It has its place now.
        sync_folder(folder_of(&self.path))
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(unix)]
fn builder() -> tempfile::Builder<'static, 'static> {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    let mut builder = tempfile::Builder::new();
    builder
        .prefix(".ravel-")
        .permissions(Permissions::from_mode(0o666));
    builder
}

#[cfg(unix)]
fn folder_builder() -> tempfile::Builder<'static, 'static> {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    let mut builder = builder();
    builder.permissions(Permissions::from_mode(0o777));
    builder
}

#[cfg(not(unix))]
fn folder_builder() -> tempfile::Builder<'static, 'static> {
    builder()
}

#[cfg(not(unix))]
fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".ravel-");
    builder
}

/// Makes the rename itself survive a power cut, where the system knows how.
fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// The reason why a folder takes no file, without the name of the temporary one.
fn about_folder(folder: &Path, error: &Error) -> Error {
    let folder = folder.display();
    let text = match error.kind() {
        ErrorKind::NotFound => format!("there is no folder {folder}"),
        ErrorKind::NotADirectory => format!("{folder} is not a folder"),
        kind => format!("the folder {folder} takes no new file: {kind}"),
    };
    Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_on_demand_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_whole(&path, b"first", false).unwrap();
        let error = write_whole(&path, b"second", false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        write_whole(&path, b"third", true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"third");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_takes_no_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent");
        let line = write_whole(&absent.join("a"), b"x", true)
            .unwrap_err()
            .to_string();
        assert_eq!(line, format!("there is no folder {}", absent.display()));
    }

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut file = WholeFile::create(&path, false).unwrap();
        file.file().write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_takes_its_place_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames");
        let mut frames = WholeFolder::create(&path, false).unwrap();
        frames.write("1", b"one").unwrap();
        assert!(!path.exists());
        drop(frames);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        std::fs::create_dir(&path).unwrap();
        let fill = |replace, text: &[u8]| {
            let mut frames = WholeFolder::create(&path, replace)?;
            frames.write("1", text)?;
            frames.commit()
        };
        fill(false, b"one").unwrap();
        assert_eq!(
            fill(false, b"two").unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        std::fs::write(path.join("mine"), "mine").unwrap();
        fill(true, b"three").unwrap();
        assert_eq!(std::fs::read(path.join("1")).unwrap(), b"three");
        assert_eq!(std::fs::read(path.join("mine")).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let error = WholeFile::create(folder.path(), true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_has_the_permissions_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_whole(&ours, b"x", false).unwrap();
        std::fs::write(&plain, b"x").unwrap();
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
