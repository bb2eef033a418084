#include "explore.h"
const struct sim_mode *ace_modes(unsigned *nr)
{
	*nr = 0;
	return NULL;
}
