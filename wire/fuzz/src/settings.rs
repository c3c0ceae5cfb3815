//! The daemon's settings file.

use std::num::NonZero;
use std::path::Path;

use hedgerow_engine::shell::settings::{Flags, Machine};

/// A machine that any settings are checked against.
const MACHINE: Machine = Machine { cores: NonZero::<usize>::MIN.saturating_add(7), memory_bytes: 16 << 30 };

/// A file is refused with a sentence, or gives settings that are printed as a file that gives the same settings.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = |text: &str| Flags::from_toml(Path::new("hedgerow.toml"), text);
    let flags = match read(text) {
        Ok(flags) => flags,
        Err(error) => return assert!(!error.right.is_empty(), "refused without a word"),
    };
    let settings = match flags.clone().settings(MACHINE) {
        Ok(settings) => settings,
        Err(error) => return assert!(error.setting.starts_with("--"), "refused without a name: {error}"),
    };
    let printed = flags.to_toml(&settings);
    match read(&printed).and_then(|flags| flags.settings(MACHINE)) {
        Ok(again) => assert_eq!(again, settings, "printed as\n{printed}"),
        Err(error) => panic!("printed settings are refused: {error}\n{printed}"),
    }
}
