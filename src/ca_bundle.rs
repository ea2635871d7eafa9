//! Certificates of private authorities, from the disk: whom to trust instead of those whom this machine trusts.

use crate::error::{Error, Result};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// All the certificates that there are take less than one. In bytes.
const MAX_SIZE: u64 = 16 * 1024 * 1024;

/// Authorities to trust.
#[derive(Clone, PartialEq, Eq)]
pub struct CaBundle {
    /// As the caller wrote it.
    pub path: String,
    /// Each in DER.
    pub certificates: Vec<Vec<u8>>,
}

impl std::fmt::Debug for CaBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CaBundle({}, {} certificates)", self.path, self.certificates.len())
    }
}

impl CaBundle {
    /// Reads a file of PEM certificates, or all such files of a folder.
    pub fn load(path: &str) -> Result<Self> {
        let wrong = |why: String| Error::configuration(format!("ca_bundle '{path}' {why}"));
        let unreadable = |error: io::Error| wrong(format!("cannot be read: {error}"));
        let certificates = if fs::metadata(path).map_err(unreadable)?.is_dir() {
            let mut found = Vec::new();
            for file in files(Path::new(path)).map_err(unreadable)? {
                // A folder of certificates holds other files, too.
                found.extend(read(&file).ok().and_then(|text| certificates(&text).ok()).into_iter().flatten());
            }
            found
        } else {
            let text = read(Path::new(path)).map_err(unreadable)?;
            certificates(&text).map_err(|why| wrong(format!("{why}; give a file of PEM certificates")))?
        };
        if certificates.is_empty() {
            return Err(wrong("holds no PEM certificate (-----BEGIN CERTIFICATE-----)".into()));
        }
        Ok(Self { path: path.to_owned(), certificates })
    }
}

/// The files of a folder, in an order that is always the same.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries: io::Result<Vec<PathBuf>> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    entries.map(|mut files| {
        files.sort();
        files
    })
}

/// A whole file, if it is one: a device or a pipe may have no end.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let about = fs::metadata(path)?;
    if !about.is_file() || about.len() > MAX_SIZE {
        return Err(io::Error::other("it is not a file of certificates"));
    }
    let mut text = Vec::new();
    fs::File::open(path)?.take(MAX_SIZE).read_to_end(&mut text)?;
    Ok(text)
}

/// The certificates in `text`, each tried as an authority; an error completes "ca_bundle 'path' ...".
fn certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if text.trim_ascii().is_empty() {
        return Err("is empty".into());
    }
    if text[0] == 0x30 {
        return Err("is in DER, not in PEM (openssl x509 -inform der converts it)".into());
    }
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|_| "is broken PEM")?;
        let der = certificate.to_vec();
        RootCertStore::empty().add(certificate).map_err(|_| "holds a certificate that cannot be read")?;
        found.push(der);
    }
    Ok(found)
}
