// Notices that what comes to us has stopped: no event of a browser tells of that in time.

/** How often it is looked whether anything has come. A mouse would not notice; media that stopped is noticed so much later. */
export const LOOK_MS = 150;
/** Something came in so many looks in a row: it flows. What comes now and then, as of somebody silent, does not. */
const FLOWS_LOOKS = 6;
/** What flowed has stopped when nothing comes for so long. Less takes every hiccup of a weak line for a stop. */
const STILL_MS = 300;

export class Flow {
  private looks = 0; // in a row, in which something had come
  private flows = false;
  private silent = 0; // looks in a row, in which nothing had come
  private heardAt = 0;
  private still = false;

  /** Takes in one look, at a time in ms: had anything come since the last one? True, once: what flowed has stopped. */
  note(came: boolean, now: number): boolean {
    if (came) {
      this.heardAt = now;
      this.silent = 0;
      this.still = false;
      this.flows ||= ++this.looks >= FLOWS_LOOKS;
      return false;
    }
    this.looks = 0;
    // One look alone may be late: nothing has come to a page either that stood still itself.
    if (!this.flows || ++this.silent < 2 || now - this.heardAt < STILL_MS) return false;
    this.flows = false;
    this.still = true;
    return true;
  }

  /** It has stopped, and not begun again. */
  get isStill(): boolean {
    return this.still;
  }
}
