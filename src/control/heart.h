/* heart: tells a service manager that watches that the process is alive. Private to control. */
#ifndef DAGWARD_CONTROL_HEART_H
#define DAGWARD_CONTROL_HEART_H

struct control;
struct heart;

/* From now on, at half of the watchdog's time, every worker and the scribe are sent a mail; the
 * manager is told only when all of these have come back through their threads. NULL when nobody
 * watches. */
struct heart *heart_new(struct control *control);
/* When no mail of its is on its way any more, as control_free has it. Harmless on NULL. */
void heart_free(struct heart *heart);

#endif
