//! Target: the reader of etcd's database files, on whatever lies behind valid metas.

use etcd_encryption_proxy::bbolt::{Backwards, Database, Error};

#[path = "../../src/bbolt/tests/file.rs"]
mod file;

use file::{FIRST, Pairs, Shape, database, with_metas};

const PAGE: u32 = 1024;

/// The root bucket's page, then all pages behind the metas. The file is read whole, and cut off.
pub fn run(data: &[u8]) {
    let Some((&root, pages)) = data.split_first() else {
        return;
    };
    let bytes = with_metas(PAGE, root.into(), pages);
    let whole = read(&bytes);
    for (bucket, entries) in whole.iter().flatten().flatten() {
        assert!(
            entries.is_sorted_by(|behind, entry| behind.0 > entry.0),
            "entries of {bucket} are out of order"
        );
        let held: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(held <= bytes.len(), "{bucket} holds more than there is");
    }
    let cut = bytes.len() - usize::from(root) % bytes.len();
    if cut < bytes.len() {
        assert!(read(&bytes[..cut]).is_err(), "a file without its end was read");
    }
}

/// Every bucket that etcd has, the last entry first.
fn read(bytes: &[u8]) -> Result<Vec<Option<(&'static str, Pairs)>>, Error> {
    let database = Database::open(bytes, bytes.len() as u64)?;
    ["key", "meta"]
        .into_iter()
        .map(|name| {
            let Some(bucket) = database.bucket(name.as_bytes())? else {
                return Ok(None);
            };
            Ok(Some((name, all(database.backwards(&bucket))?)))
        })
        .collect()
}

fn all(mut entries: Backwards<'_, [u8]>) -> Result<Pairs, Error> {
    let mut found = Pairs::new();
    while let Some(entry) = entries.next()? {
        found.push((entry.key.to_vec(), entry.value.to_vec()));
    }
    assert!(entries.next()?.is_none(), "it goes on behind its end");
    Ok(found)
}

/// Databases of several shapes.
pub fn seeds() -> Vec<Vec<u8>> {
    let pairs =
        |count: u8, value: usize| -> Pairs { (0..count).map(|index| (vec![index, 1], vec![index; value])).collect() };
    let mut seeds = Vec::new();
    for (count, value) in [(0, 0), (1, 5), (9, 20), (9, 700), (30, 3), (2, 3_000)] {
        for inline in [false, true] {
            let shape = Shape {
                page_size: PAGE,
                fan_out: 3,
                inline,
            };
            let bytes = database(shape, &[(b"key", pairs(count, value)), (b"meta", pairs(3, 8))]);
            let pages = &bytes[FIRST * PAGE as usize..];
            // The root bucket's leaf is written last, and is a page alone where nothing lies in it.
            let root = FIRST
                + pages
                    .chunks(PAGE as usize)
                    .rposition(|page| page[8] == 2)
                    .expect("a leaf");
            let root = if inline { FIRST } else { root };
            let found = read(&with_metas(PAGE, root as u64, pages)).expect("a database");
            assert!(found.iter().all(Option::is_some), "a seed without buckets");
            seeds.push([&[u8::try_from(root).expect("few pages")][..], pages].concat());
        }
    }
    seeds
}
