//! Files that are written whole or not at all: a temporary file beside the target, fsync, rename, fsync of the folder.

use std::fs::File;
use std::io::{Error, ErrorKind, Result, Write};
use std::path::Path;

/// Writes a file whole or not at all. One that is there already is replaced only with `replace`.
///
/// The file gets the permissions that any new file gets here (the umask's), not those of a temporary one.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] if there is a file and `replace` is not set; what the system reports otherwise, worded
/// without the name of the temporary file. The target is then as it was.
pub fn write_whole(path: &Path, bytes: &[u8], replace: bool) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = builder()
        .tempfile_in(folder)
        .map_err(|error| about_folder(folder, &error))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let kept = match replace {
        true => file.persist(path),
        false => file.persist_noclobber(path),
    };
    kept.map_err(|error| error.error)?;
    sync_folder(folder)
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
