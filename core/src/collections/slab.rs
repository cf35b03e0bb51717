//! Values by small number.

/// Values by number. The number of a removed value is used again, so that numbers stay small: sets of pods store 4 bytes per pod.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Stores a value and returns its number.
    pub fn insert(&mut self, value: T) -> u32 {
        let Some(number) = self.free.pop() else {
            self.slots.push(Some(value));
            return u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 values at a time");
        };
        self.slots[number as usize] = Some(value);
        number
    }

    /// The value with this number.
    pub fn get(&self, number: u32) -> Option<&T> {
        self.slots.get(number as usize)?.as_ref()
    }

    /// The value with this number, to change.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    /// Removes a value and frees its number.
    pub fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.slots.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(value)
    }

    /// All values with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().enumerate().filter_map(|(number, slot)| Some((number as u32, slot.as_ref()?)))
    }

    /// The values of some numbers, from one on, with the first number behind them; `None` if there are no more.
    pub fn part(&self, first: u32, most: usize) -> (impl Iterator<Item = &T>, Option<u32>) {
        let start = (first as usize).min(self.slots.len());
        let end = start.saturating_add(most).min(self.slots.len());
        let next = (end < self.slots.len()).then_some(end as u32);
        (self.slots[start..end].iter().flatten(), next)
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
